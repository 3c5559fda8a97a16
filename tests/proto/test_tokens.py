"""Characters to a tree: grammar, places of errors, variables."""

import pytest

from caffe_port.errors import FormatError, speaking
from caffe_port.proto.tokens import MAX_DEPTH, Scalar, parse_tree, substitute


def one(text):
    (entry,) = parse_tree(text)
    return entry


def refused(text):
    with pytest.raises(FormatError) as caught:
        parse_tree(text, "net.prototxt")
    assert caught.value.path == "net.prototxt"
    return caught.value


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("a: 5", "number", "5"),
        ("a:-5", "number", "-5"),
        ("a: - 5", "number", "-5"),
        ("a: 0x1F", "number", "0x1F"),
        ("a: 1.5e-3f", "number", "1.5e-3f"),
        ("a: .5", "number", ".5"),
        ("a: 5.", "number", "5."),
        ("a: -inf", "number", "-inf"),
        ("a: nan", "word", "nan"),
        ("a: MAX", "word", "MAX"),
        ("a: 'x' \"y\"\n'z'", "string", "xyz"),
        (r"a: '\n\x41\101\'\\'", "string", "\nAA'\\"),
        (r"a: '\303\251'", "string", "\xe9"),
        (r"a: '\303' '\251'", "string", "\xe9"),
        ("a: '# no comment' # comment", "string", "# no comment"),
        ("a: 'caf\xe9'", "string", "caf\xe9"),
    ],
)
def test_values(text, kind, value):
    scalar = one(text).value
    assert (scalar.kind, scalar.text) == (kind, value)


def test_blocks_lists_and_separators():
    text = "b { x: 1, y < z: 2; > } l: [1, 2] m: [{x: 3}, {}] e: [] c: {}"
    names = [(e.name, e.value if isinstance(e.value, tuple) else e.value.text)
             for e in parse_tree(text)]  # fmt: skip
    assert [name for name, _ in names] == ["b", "l", "l", "m", "m", "c"]
    assert [value for name, value in names if name == "l"] == ["1", "2"]
    inner = dict(names)["b"]
    assert [e.name for e in inner] == ["x", "y"]
    assert inner[1].value[0].value.text == "2"


def test_places_count_from_one_over_every_kind_of_line_end():
    (block,) = parse_tree("# first\r\n\r\nlayer {\n\tname: 'x'\n}")
    assert (block.line, block.column) == (3, 1)
    name = block.value[0]
    assert (name.line, name.column) == (4, 2)
    assert name.value == Scalar("string", "x", 4, 8)


@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        ("a: 1\nb: 'open\nc: 2", 2, 4, "does not end on its line"),
        ('a: "open', 1, 4, "does not end on its line"),
        (r"a: 'x\'", 1, 4, "does not end on its line"),
        ("a: 1\n}", 2, 1, "unexpected '}'"),
        ("b {\n a: 1", 2, 6, "expected a field name or '}'"),
        ("b { a: 1 >", 1, 10, "expected a field name or '}'"),
        ("a 5", 1, 3, "expected ':' or '{' after 'a', found '5'"),
        ("a:", 1, 3, "expected a value for 'a', found 'the end of the text'"),
        ("a: }", 1, 4, "expected a value"),
        ("a: [1 2]", 1, 7, "expected ',' or ']'"),
        ("a: --5", 1, 5, "expected a value"),
        ("a: 5x", 1, 4, "unexpected '5x'"),
        ("a: 1.2.3", 1, 4, "unexpected '1.2.3'"),
        ("a: @", 1, 4, "unexpected '@'"),
        ("\u0663: 1", 1, 1, "unexpected"),
        (r"a: '\q'", 1, 4, "unknown escape '\\q'"),
        (r"a: '\x'", 1, 4, "unknown escape '\\x'"),
        ("a: '\ud800'", 1, 4, "half of a surrogate pair"),
        ("a: 1\n\udcff", 2, 1, "unexpected"),
    ],
)
def test_errors_name_their_place(text, line, column, words):
    error = refused(text)
    assert (error.line, error.column) == (line, column)
    assert words in str(error)


def test_nesting_bombs_end_in_an_error():
    assert "nested more than" in str(refused("a {" * 100_000))
    assert "nested more than" in str(refused("a: [" + "{a: [" * 100_000))
    deep = "a {" * MAX_DEPTH + "}" * MAX_DEPTH
    assert one(deep).name == "a"


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "1" * 200_000 + "z",
        "a: 1." + "1" * 200_000 + "z",
        "a: 0x" + "f" * 200_000 + "z",
        "-" * 200_000,
        "a: '" + "x" * 200_000,
        "." * 200_000,
        "a: " + "1." * 100_000,
    ],
    ids=["digits", "fraction", "hex", "minus", "string", "dots", "dotted"],
)
def test_long_runs_are_refused_without_trying_every_split(text):
    error = refused(text)  # quadratic time would be felt as a hang
    assert len(str(error)) < 200


def test_variables_are_filled_everywhere_and_by_name():
    text = "a: '${ROOT}/${LIST}.txt' n: ${N} # ${UNSET}"
    filled = substitute(text, {"ROOT": "voc", "LIST": "val", "N": 21})
    assert filled == "a: 'voc/val.txt' n: 21 # ${UNSET}"
    assert [e.value.text for e in parse_tree(filled)] == ["voc/val.txt", "21"]


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        ("a: 1\nsource: 'list/${TRAIN_SET}.txt'", "TRAIN_SET", 2),
        ("\n\nnum_output: ${NUM_LABELS}", "NUM_LABELS", 3),
        ("name: fc8_${EXP}", "EXP", 1),
        ("${EXP} { }", "EXP", 1),
    ],
)
def test_a_variable_without_a_value_is_named_with_its_line(text, name, line):
    error = refused(text)
    assert error.line == line
    assert f"${{{name}}} has no value" in str(error)
    assert f"give it one: variables={{'{name}': VALUE}}" in str(error)
    with speaking("caffe-port"):
        assert f"give it one: --set {name}=VALUE" in str(refused(text))
    with speaking("caffe"):
        assert "give it one: a value in the file, as sed does it" in str(refused(text))


def test_what_looks_like_a_variable_and_is_not():
    assert one("a: '${} $5 ${a b}'").value.text == "${} $5 ${a b}"
    assert "is not a variable name" in str(refused("a: ${}"))
