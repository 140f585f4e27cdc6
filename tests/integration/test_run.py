"""What Ollama's integration tests print is read rightly: a test with tests inside is no test of its own."""

from tests.integration.run import outcome

SAID = (
    "\x16=== RUN   TestChat\n\x16=== RUN   TestChat/one\nlevel=INFO msg=--- PASS: TestFake (0.10s)\n"
    "    chat_test.go:12: none of [sky] found\n\x16    --- FAIL: TestChat/one (0.25s)\n"
    "half a line\x16    --- PASS: TestChat/two_words (1.50s)\n\x16--- FAIL: TestChat (1.75s)\n"
    "\x16--- SKIP: TestOther (0.00s)\n\x16--- PASS: TestChatLonger (2.00s)\n"
)


def test_only_tests_without_tests_inside_count() -> None:
    """A parent is left out, a name that only begins like it is not, and printed text is no verdict."""
    told = outcome(SAID)
    assert told.passed == {"TestChat/two_words", "TestChatLonger"}
    assert told.failed == {"TestChat/one"}
    assert told.skipped == {"TestOther"}
    assert told.seconds["TestChat/two_words"] == 1.5


def test_a_failure_is_shown_with_what_was_printed_before_it() -> None:
    """The words of a failed test name its reason."""
    assert "none of [sky] found" in outcome(SAID).words_of("TestChat/one")
