"""Run the rows asked for on two processes and print each beside its target; exit code 1 where one is missed."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

from scheduler.proof.frame import SHORT, Answer, Finding, Form, Row, Task, carry_out
from scheduler.proof.rows import ROWS

PROCESSES = 2
MARKS = {True: "ok  ", False: "MISS", None: "    "}
BROKEN, MISSED = 2, 1


def main() -> int:
    """0: every target is met; 1: one is missed; 2: a row could not be run."""
    given = _arguments()
    form = SHORT if given.short else Form()
    rows = [ROWS[name] for name in given.rows] if given.rows else list(ROWS.values())
    missed = broken = judged = 0
    for row, findings, seconds in run(rows, form, given.processes):
        _say(f"{row.name}: {row.claim}  ({seconds:.1f} s of computing)")
        if isinstance(findings, Exception):
            broken += 1
            _say(f"  BROKEN  {type(findings).__name__}: {findings}")
            continue
        for line in lines(findings):
            _say(line)
        judged += sum(finding.holds is not None for finding in findings)
        missed += sum(finding.holds is False for finding in findings)
    _say(f"\n{judged - missed} of {judged} targets met" + (f", {broken} rows could not be run" if broken else ""))
    return BROKEN if broken else MISSED if missed else 0


def run(rows: Sequence[Row], form: Form, processes: int) -> Iterator[tuple[Row, list[Finding] | Exception, float]]:
    """Each row with its findings (or what broke) and the seconds its tasks took, as soon as it and those before it are
    done; all tasks share the processes."""
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        begun: list[tuple[Row, list[Future[Answer]] | Exception]] = []
        asked: dict[Task, Future[Answer]] = {}  # what several rows ask for is run once
        for row in rows:
            try:
                tasks = row.tasks(form)
                asked |= {task: pool.submit(carry_out, task) for task in tasks if task not in asked}
                begun.append((row, [asked[task] for task in tasks]))
            except Exception as error:  # a row that cannot begin leaves the others alone
                begun.append((row, error))
        try:
            for row, futures in begun:
                yield _finished(row, form, futures)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _finished(
    row: Row, form: Form, futures: list[Future[Answer]] | Exception
) -> tuple[Row, list[Finding] | Exception, float]:
    if isinstance(futures, Exception):
        return row, futures, 0.0
    try:
        answers = [future.result() for future in futures]
        seconds = sum(answer.seconds for answer in answers)
        return row, row.judge(form, [answer.value for answer in answers]), seconds
    except Exception as error:  # told beside the other rows
        return row, error, 0.0


def lines(findings: Sequence[Finding]) -> Iterator[str]:
    """The findings of one row in columns."""
    subject = max((len(finding.subject) for finding in findings), default=0)
    measured = max((len(finding.measured) for finding in findings), default=0)
    for finding in findings:
        text = (
            f"  {MARKS[finding.holds]}  {finding.subject:<{subject}}  {finding.measured:<{measured}}  {finding.target}"
        )
        yield text.rstrip()


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m scheduler.proof", description=__doc__)
    parser.add_argument("--short", action="store_true", help="the form that CI plays")
    parser.add_argument("--rows", type=_rows, default=[], help=f"only these, parted by commas: {', '.join(ROWS)}")
    parser.add_argument("--processes", type=int, default=PROCESSES, help=f"how many at once ({PROCESSES})")
    return parser.parse_args()


def _rows(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in ROWS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no row is called {', '.join(unknown)}; there are {', '.join(ROWS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())
