"""The command lines of native benchmark binaries, as a script that runs detached; pure.

``benchmark_model`` (LiteRT) and ``onnxruntime_perf_test`` run for a time. ``benchncnn`` prints no
median, so it is run again and again for one sample each; it times a net with random weights.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from assay.agent.phones.rails import noting
from assay.core.errors import RuntimeRejected
from assay.core.model import RunSpec

NCNN_INVOCATIONS = 15
STATUS, OUTPUT, PID, HEAT = "status", "output", "pid", "heat"
UNPINNED, FIXED = "@@unpinned", "@@fixed"
# Before API 30 a phone may answer an unknown command with status 0.
_FIX = "cmd power set-fixed-performance-mode-enabled"
UNFIX = f"{_FIX} false >/dev/null 2>&1"
"""Lets the clocks be what Android wants them to be again."""
# Between runs and at the end of the last: beside one it would take part in what is timed.
_HEAT = f'dumpsys thermalservice 2>/dev/null | grep "Thermal Status:" >> {HEAT}'


def command_line(
    run: RunSpec, binary: str, model: str, shape: Sequence[int] = ()
) -> tuple[list[str], int]:
    """How ``binary`` is told to run ``model``, and how often. ``shape`` is an ncnn net's input
    without the batch. What a binary has no flag for is refused by name."""
    name, threads = run.runtime.name, run.runtime.threads
    seconds = f"{run.profile.t_min_ns / 1e9:g}"
    if run.runtime.options:
        given = ", ".join(run.runtime.options)
        raise RuntimeRejected(f"on a phone {name} takes no options; given: {given}")
    if run.runtime.provider not in ("", "CPU", "XNNPACK", "CPUExecutionProvider"):
        raise RuntimeRejected(f"on a phone {name} runs on the CPU, not on {run.runtime.provider}")
    if name == "litert":
        timing = ["--warmup_min_secs=1", f"--min_secs={seconds}", "--num_runs=50"]
        return [binary, f"--graph={model}", f"--num_threads={threads}", *timing], 1
    if name == "onnxruntime":
        spin = [] if run.runtime.allow_spinning else ["-D"]
        timing = ["-m", "duration", "-t", seconds]
        return [binary, *timing, "-x", str(threads), *spin, "-I", model], 1
    if name == "ncnn":
        sizes = ",".join(str(size) for size in reversed(shape))
        argv = [binary, "1", str(threads), "0", "-1", "0", f"param={model}", f"shape=[{sizes}]"]
        return argv, NCNN_INVOCATIONS
    raise RuntimeRejected(f"there is no native benchmark binary of {name}")


def detached(argv: Sequence[str], times: int, folder: str, mask: int) -> str:
    """A script that starts ``argv`` in ``folder`` in a session of its own and returns at once.

    It outlives the connection. Output goes to ``output``, the exit status to ``status`` when all
    is over, the leader's pid to ``pid``, the thermal status after each run to ``heat``; runs are
    parted by a line ``@@run``. Where the phone does not take the mask (a cluster that is offline),
    it runs free and says :data:`UNPINNED`. Where it has a fixed performance mode, it is on for the
    run, which says :data:`FIXED`. Where the phone has a power monitor that may be read, its rails
    are noted (:mod:`.rails`).
    """
    pin = f"p='taskset {mask:x}'; $p true 2>/dev/null || {{ p=; echo {UNPINNED}; }}; "
    loop = pin if mask else f"p=; echo {UNPINNED}; "
    loop += f"i=0; s=0; while [ $i -lt {times} ] && [ $s -eq 0 ]; do echo @@run; "
    loop += f"$p {shlex.join(argv)}; s=$?; i=$((i+1)); {_HEAT}; done"
    fix = f'f=; if [ "$(getprop ro.build.version.sdk)" -ge 30 ] && {_FIX} true; then f=1; fi'
    fix += f' >/dev/null 2>&1; [ -n "$f" ] && echo {FIXED}; '
    loop = f'{fix}{noting(loop)}; [ -n "$f" ] && {UNFIX}'
    inner = f"echo $$ > {PID}; ({loop}; echo $s > {STATUS}.new) > {OUTPUT} 2>&1; "
    inner += f"mv {STATUS}.new {STATUS}"
    return f"cd {folder} && setsid sh -c {shlex.quote(inner)} < /dev/null > /dev/null 2>&1 &"
