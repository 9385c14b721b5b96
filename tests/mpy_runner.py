"""Runs every `test_` function of one file: `micropython tests/mpy_runner.py FILE`.

One line a test, then "N tests, M failed"; exit code 1 where one failed or there is none.
MICROPYPATH must hold what the file imports, and its own folder.
"""

import gc
import sys


def run(path):
    """Import the file and run its tests; True where all passed."""
    name = path.replace("\\", "/").split("/")[-1]
    if name.endswith(".py"):
        name = name[:-3]
    module = __import__(name)
    count = failed = 0
    for test in sorted(dir(module)):
        function = getattr(module, test)
        if not test.startswith("test_") or not callable(function):
            continue
        count += 1
        gc.collect()
        try:
            function()
        except Exception as error:
            failed += 1
            print("FAIL", test)
            if hasattr(sys, "print_exception"):
                sys.print_exception(error)  # pyright: ignore[reportAttributeAccessIssue]
            else:
                sys.excepthook(type(error), error, error.__traceback__)
        else:
            print("ok", test)
    print(count, "tests,", failed, "failed")
    return count > 0 and not failed


if __name__ == "__main__":
    sys.exit(0 if run(sys.argv[1]) else 1)
