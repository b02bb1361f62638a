import socket

import pytest

from cluster.start import hosts
from storage.errors import InputError


@pytest.fixture
def token(tmp_path):
    path = tmp_path / "token"
    path.write_text("a token of the test\n")
    path.chmod(0o600)
    return path


def test_a_token_is_read_from_a_private_file(token):
    assert hosts.read_token(token) == "a token of the test"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666])
def test_a_token_that_others_can_read_is_refused(token, mode):
    token.chmod(mode)
    with pytest.raises(InputError, match=r"can be read by others\. chmod 600"):
        hosts.read_token(token)


def test_a_token_that_is_not_there_or_empty_is_refused(token, tmp_path):
    with pytest.raises(InputError, match="cannot be read: No such file"):
        hosts.read_token(tmp_path / "absent")
    token.write_text("\n")
    with pytest.raises(InputError, match="is empty"):
        hosts.read_token(token)


@pytest.mark.parametrize(
    ("head", "problem"),
    [
        ("10.78.0.1", "is not an IPv4 address"),
        ("example.org:20000", "is not an IPv4 address"),
        ("0.0.0.0:20000", "is not an IPv4 address of a machine"),
        ("10.78.0.1:", "names no port"),
        ("127.0.0.1:20000", "can only be reached from its own host"),
    ],
)
def test_a_head_that_cannot_be_joined_is_refused(head, problem, token, tmp_path):
    with pytest.raises(InputError, match=problem):
        hosts.join(head, token, tmp_path / "state")
    assert not (tmp_path / "state").exists()


def test_a_head_that_does_not_answer_is_refused():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(InputError, match="does not answer: Connection refused"):
            hosts.own_address("127.0.0.1", closed.getsockname()[1])


def test_the_own_address_is_the_one_that_the_head_sees():
    with socket.create_server(("127.0.0.1", 0)) as head:
        assert hosts.own_address("127.0.0.1", head.getsockname()[1]) == "127.0.0.1"
