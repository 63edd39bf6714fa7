"""RFC 6455, by the Autobahn cases that kosoku plays, against the very server that players meet.

Same listener, same limits, no compression; only what a session does is replaced by an echo. What
may differ from a strict pass is listed case by case. `websockets` documents these deviations in the
conformance notes of its compliance/README.rst (commit 0d2e246), except where it says otherwise.
"""

import asyncio
import logging
from typing import Any

import pytest

from worldsim.server import app
from worldsim.server.app import ServeConfig, listen, open_server
from worldsim.server.protocol import MAX_MESSAGE

kosoku = pytest.importorskip("kosoku", reason="the case suite: pip install 'worldsim-engine[dev]'")

# A close in the middle of a fragmented message is a protocol error to websockets: it answers 1002,
# the suite expects the 1000 that it sent. The RFC leaves that open.
FAILS = {"7.1.5": "WRONG CODE"}

# Noticed, and closed with the right code, before the message ahead of it is echoed. 3.4, 4.1.5 and
# 4.2.5 are 3.3, 4.1.4 and 4.2.4 in pieces; the notes do not name them, and a quiet machine passes.
# 6.4: bad UTF-8 within a fragmented message is noticed with its last fragment.
MAY_BE_NON_STRICT = {
    *("3.2", "3.3", "4.1.3", "4.1.4", "4.2.3", "4.2.4", "5.15"),
    *("3.4", "4.1.5", "4.2.5"),
    *("6.4.1", "6.4.2", "6.4.3", "6.4.4"),
}

# Nothing is required there: what comes after the close, or with close codes that nobody defined.
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}

# Messages of more than 16 KiB, which a player of ours never sends: closed with 1009.
TOO_LONG = {"1.1.6", "1.1.7", "1.1.8", "1.2.6", "1.2.7", "1.2.8", "10.1.1"}

# 4 MiB in pieces of 64 or 256 bytes: websockets takes 16,384 fragments of a message (the docstring
# of its ServerProtocol); closed with 1009.
TOO_MANY_PIECES = {"9.3.1", "9.3.2", "9.4.1", "9.4.2"}

BIG = ["9.*"]  # up to 16 MiB a message
TIMED = ["9.7.*", "9.8.*"]  # a thousand echoes within five seconds: the machine's affair
COMPRESSION = ["12.*", "13.*"]  # permessage-deflate, which is never negotiated


class EchoDoor:
    """Lets everybody in and says back what they say."""

    def check(self, connection: Any, request: Any) -> None:
        """No answer over plain HTTP."""

    async def play(self, connection: Any) -> None:
        async for message in connection:
            await connection.send(message)


def run_cases(cases: list[str] | None, but: list[str], *, at_once: int = 8) -> dict[str, Any]:
    """The result of each case by its number."""

    async def run() -> list[Any]:
        config = ServeConfig(port=0)
        with listen(config) as listener:
            url = f"ws://127.0.0.1:{listener.getsockname()[1]}"
            door: Any = EchoDoor()
            async with await open_server(door, listener, config):
                try:
                    found = await kosoku.run_fuzzingclient(url, cases, but, concurrency=at_once)
                except kosoku.FailureError as failure:
                    found = failure.results
        return list(found)

    return {result.case_id: result for result in asyncio.run(run())}


def verdicts(results: dict[str, Any], kind: str) -> set[str]:
    return {case for case, result in results.items() if result.behavior.value == kind}


def check(results: dict[str, Any], *, failing: set[str]) -> None:
    assert verdicts(results, "FAILED") == failing
    assert verdicts(results, "ERROR") == set()
    assert verdicts(results, "NON-STRICT") <= MAY_BE_NON_STRICT
    assert verdicts(results, "INFORMATIONAL") == INFORMATIONAL & set(results)
    for case in set(results) - failing - INFORMATIONAL:
        assert results[case].behavior_close.value == "OK", case


def test_the_server_conforms_but_for_what_is_listed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        results = run_cases(None, [*BIG, *COMPRESSION])

    assert len(results) == 247
    check(results, failing={*FAILS, *TOO_LONG})
    for case, closing in FAILS.items():
        assert results[case].behavior_close.value == closing
    for case in TOO_LONG:
        assert results[case].remote_close_code == 1009
    assert not caplog.records


def test_what_is_refused_for_its_length_alone_conforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MAX_MESSAGE", 4 * MAX_MESSAGE)

    results = run_cases(sorted(TOO_LONG), [])

    assert set(results) == TOO_LONG
    check(results, failing=set())


@pytest.mark.slow
def test_messages_of_any_length_conform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "MAX_MESSAGE", 16 * 2**20)

    results = run_cases(BIG, TIMED, at_once=1)

    assert len(results) == 42
    check(results, failing=TOO_MANY_PIECES)
    assert all(results[case].remote_close_code == 1009 for case in TOO_MANY_PIECES)


@pytest.mark.slow
def test_compression_is_never_negotiated() -> None:
    results = run_cases(COMPRESSION, [])

    assert results and verdicts(results, "UNIMPLEMENTED") == set(results)
