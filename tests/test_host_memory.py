import platform
import subprocess
import sys

import pytest

PAGE_FAULTS = """
import resource, sys, torch
from queryseg.host_memory import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for step in range(40):
    if step == 30:  # glibc looks for the right place a few times
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10 << 20)  # 40 MB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's allocator")
def test_the_next_step_needs_no_new_pages():
    faults = {}
    for how in ("keep", "default"):
        answer = subprocess.run([sys.executable, "-c", PAGE_FAULTS, how], capture_output=True, text=True, check=True)
        faults[how] = int(answer.stdout)
    assert faults["keep"] < 0.2 * faults["default"]
