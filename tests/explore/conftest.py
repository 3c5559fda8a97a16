"""A page for all tests of a file."""

import pytest

pytest.importorskip("starlette", reason="the extra 'explore' is not installed")
pytest.importorskip("uvicorn", reason="the extra 'explore' is not installed")


@pytest.fixture(scope="module")
def page():
    """A page of the example, with its images, label maps, recording and run."""
    import caffe_port as cp
    from tests.explore import client

    with cp.explore(
        client.segmenter(), images=client.IMAGES, truth=client.TRUTH, run=client.RUN,
        recording=client.RUN / "recording",
    ) as found:  # fmt: skip
        yield found


@pytest.fixture
def client(page):
    """A connection to the page's server."""
    from tests.explore.client import Client

    one = Client(page.url)
    yield one
    one.close()


@pytest.fixture
def tab(client):
    """An open page that shows the example's first validation image."""
    one = client.open()
    one.show()
    yield one
    client.post(f"api/sessions/{one.session}/close")
