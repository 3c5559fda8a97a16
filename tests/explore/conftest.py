"""A page for all tests of a file."""

import pytest

import caffe_port as cp
from tests.explore import client as clients


@pytest.fixture(scope="module")
def page():
    """A page of the example, with its images, label maps, recording and run."""
    with cp.explore(
        clients.segmenter(), images=clients.IMAGES, truth=clients.TRUTH, run=clients.RUN,
        recording=clients.RUN / "recording",
    ) as found:  # fmt: skip
        yield found


@pytest.fixture
def client(page):
    """A connection to the page's server."""
    one = clients.Client(page.url)
    yield one
    one.close()


@pytest.fixture
def tab(client):
    """An open page that shows the example's first validation image."""
    one = client.open()
    one.show()
    yield one
    client.post(f"api/sessions/{one.session}/close")
