"""Replaces Slurm's programs, depending on its file name; jobs are local processes, recorded in $FAKE_SLURM."""

import os
import pathlib
import signal
import subprocess
import sys
import time

PROGRAMS = ("sbatch", "srun", "sacct", "scancel", "scontrol")


def processes(job):
    """All processes of a job, as Slurm's control groups find them."""
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if f"SLURM_JOB_ID={job}".encode() in (process / "environ").read_bytes().split(b"\0"):
                yield int(process.name)
        except OSError:  # it has just ended
            continue


def send(job, number):
    """Sends a signal to all processes of a job except this one."""
    for process in processes(job):
        if process != os.getpid():
            os.kill(process, number)


def begin(job, folder):
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "SLURM_JOB_ID": job}
    subprocess.Popen(["bash", folder / f"{job}.sh"], env=environment, start_new_session=True, **quiet)


def main(name, *given):
    folder = pathlib.Path(os.environ["FAKE_SLURM"])
    if name == "sbatch":
        job = str(1 + len(list(folder.glob("*.sh"))))
        (folder / f"{job}.sh").write_text(pathlib.Path(given[0]).read_text())
        begin(job, folder)
        print(f"Submitted batch job {job}")
    elif name == "srun":
        out, error = (given[given.index(x) + 1].replace("%j", os.environ["SLURM_JOB_ID"]).replace("%t", "0")
                      for x in ("--output", "--error"))  # fmt: skip
        with open(out, "a") as output, open(error, "a") as errors:
            sys.exit(subprocess.call(given[given.index("--error") + 2 :], stdout=output, stderr=errors))
    elif name == "sacct":
        print("JobID|State|NodeList")
        for job in [given[i + 1] for i, x in enumerate(given) if x == "-j"]:
            ended = "CANCELLED" if (folder / f"{job}.cancelled").exists() else "COMPLETED"
            print(f"{job}|{'RUNNING' if list(processes(job)) else ended}|here")
    elif name == "scancel":
        (folder / f"{given[0]}.cancelled").touch()
        send(given[0], signal.SIGTERM)
    elif name == "scontrol":  # requeue; called by the job itself, which is about to end
        if os.fork() == 0:
            os.setsid()
            while len(list(processes(given[1]))) > 1:
                time.sleep(0.1)
            begin(given[1], folder)
            os._exit(0)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[0]).name, *sys.argv[1:])
