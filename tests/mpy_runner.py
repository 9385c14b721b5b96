"""Runs every `test_` function of one file: `micropython tests/mpy_runner.py FILE [PART/PARTS]`.

PART/PARTS, as 0/3: each third of them, from the first on. One line a test, then "N tests, M
failed"; exit code 1 where one failed or there is none. MICROPYPATH must hold what the file imports,
and its own folder.
"""

import gc
import sys


def run(path, part=0, parts=1):
    """Import the file and run its tests, or a part of them; True where all passed."""
    name = path.replace("\\", "/").split("/")[-1]
    if name.endswith(".py"):
        name = name[:-3]
    module = __import__(name)
    count = failed = 0
    tests = [x for x in sorted(dir(module)) if x.startswith("test_")]
    for test in [x for x in tests if callable(getattr(module, x))][part::parts]:
        function = getattr(module, test)
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
    which = sys.argv[2].split("/") if len(sys.argv) > 2 else ("0", "1")
    sys.exit(0 if run(sys.argv[1], int(which[0]), int(which[1])) else 1)
