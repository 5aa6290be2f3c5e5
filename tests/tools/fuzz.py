#!/usr/bin/env python3
"""Runs the libFuzzer programs of a build tree and writes down what they did.

What a program finds to be new goes to BUILD/found/NAME, and a crash to BUILD/crashes; the corpora in
tests/fuzz/corpus are read only, but with --merge, which adds what reaches code that they do not.
"""

import argparse
import concurrent.futures
import datetime
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CORPUS = ROOT / "tests" / "fuzz" / "corpus"
INPUT_BYTES_MAX = 8192
ONE_INPUT_S = 25
MEMORY_MIB = 1536
# With counters every number of rounds of a loop is something new, and corpora grow without end.
_MERGE = ("-merge=1", "-use_counters=0")


def programs(build, chosen):
    """{name: path} of the targets that were built, of those that are chosen."""
    found = {path.name[:-len("_fuzz")]: path
             for path in sorted((build / "tests" / "fuzz").glob("*_fuzz"))}
    if not found:
        sys.exit(f"fuzz: {build} has no targets")
    unknown = sorted(set(chosen) - set(found))
    if unknown:
        sys.exit(f"fuzz: no target {', '.join(unknown)}; there are {', '.join(found)}")
    return {name: path for name, path in found.items() if not chosen or name in chosen}


def figures(log):
    """What libFuzzer printed: runs, coverage (edges), features, size of the corpus."""
    result = {}
    runs = re.findall(r"^stat::number_of_executed_units:\s*(\d+)", log, re.M)
    # Without the final statistics (a crash) the last line of progress.
    progress = re.findall(r"^#(\d+)\s.*?cov: (\d+) ft: (\d+) corp: (\d+)/", log, re.M)
    if progress:
        last = progress[-1]
        result = {"runs": int(last[0]), "cov": int(last[1]), "ft": int(last[2]),
                  "corpus": int(last[3])}
    if runs:
        result["runs"] = int(runs[-1])
    return result


def campaign(build, name, program, seconds):
    """One target for that long; its row of the results."""
    found, crashes = build / "found" / name, build / "crashes"
    for folder in (found, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    before = set(crashes.glob(f"{name}-*"))
    log_path = build / f"{name}.log"
    words = ["nice", "-n", "19", str(program), f"-max_total_time={seconds}",
             f"-timeout={ONE_INPUT_S}", f"-report_slow_units={ONE_INPUT_S}", f"-rss_limit_mb={MEMORY_MIB}",
             f"-max_len={INPUT_BYTES_MAX}", "-print_final_stats=1",
             f"-artifact_prefix={crashes}/{name}-", str(found), str(CORPUS / name)]
    with open(log_path, "w") as log:
        status = subprocess.run(words, stdout=log, stderr=subprocess.STDOUT).returncode
    text = log_path.read_text(errors="replace")
    new = sorted(set(crashes.glob(f"{name}-*")) - before)
    real = [str(path) for path in new if not only_late(program, path)]
    row = {"seconds": seconds, **figures(text), "exit_status": status, "failures": real,
           "log": str(log_path)}
    if status != 0 and not new:
        row["failures"] = [f"exit status {status} without an input, see {log_path}"]
    return row


def only_late(program, path):
    """libFuzzer counts time that passes while a process is stopped or gets no processor: an input
    that was too slow once must be so again."""
    if not re.search(r"-(slow-unit|timeout)-", path.name):
        return False
    words = [str(program), f"-timeout={ONE_INPUT_S}", str(path)]
    return subprocess.run(words, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL).returncode == 0


def merge(build, name, program):
    """Adds the found inputs that reach new code to the corpus; returns how many."""
    corpus, found = CORPUS / name, build / "found" / name
    if not found.is_dir():
        return 0
    before = len(list(corpus.iterdir()))
    subprocess.run([str(program), *_MERGE, str(corpus), str(found)], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return len(list(corpus.iterdir())) - before


def minimize(name, program):
    """Drops inputs with names of libFuzzer's (40 digits) that reach nothing beyond the others."""
    corpus = CORPUS / name
    with tempfile.TemporaryDirectory() as folder:
        kept = pathlib.Path(folder, "kept")
        shutil.copytree(corpus, kept, ignore=lambda _, names: [
            one for one in names if re.fullmatch(r"[0-9a-f]{40}", one)])
        subprocess.run([str(program), *_MERGE, str(kept), str(corpus)], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        names = {path.name for path in kept.iterdir()}
    for path in corpus.iterdir():
        if path.name not in names:
            path.unlink()


def commit():
    words = ("git", "-C", str(ROOT), "describe", "--always", "--dirty")
    return subprocess.run(words, capture_output=True, text=True).stdout.strip()


def main():
    parser = argparse.ArgumentParser(prog="./dev fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, default=ROOT / "build-fuzz",
                        help=argparse.SUPPRESS)
    parser.add_argument("--minutes", type=float, default=10, help="for each target (10)")
    parser.add_argument("--target", action="append", default=[], metavar="NAME",
                        help="only this one; may be given several times")
    parser.add_argument("--jobs", type=int, default=1, help="so many targets at a time (1)")
    parser.add_argument("--merge", action="store_true",
                        help="run nothing: add what was found to tests/fuzz/corpus, as far as it "
                             "reaches new code")
    options = parser.parse_args()
    build = options.build.resolve()
    chosen = programs(build, options.target)
    if options.merge:
        for name, program in chosen.items():
            added = merge(build, name, program)
            minimize(name, program)
            print(f"{name:16} {added} added, {len(list((CORPUS / name).iterdir()))} in all")
        return 0
    results_path = build / "results.json"
    results = {"commit": commit(), "day": datetime.date.today().isoformat(), "targets": {}}
    failed = 0
    pool = concurrent.futures.ThreadPoolExecutor(options.jobs)
    campaigns = {pool.submit(campaign, build, name, program, max(1, round(options.minutes * 60))): name
                 for name, program in chosen.items()}
    for ended in concurrent.futures.as_completed(campaigns):
        name, row = campaigns[ended], ended.result()
        program = chosen[name]
        results["targets"][name] = row
        results_path.write_text(json.dumps(results, indent=2) + "\n")
        print(f"{'FAIL' if row['failures'] else 'ok  '} fuzz {name:16} {row.get('runs', 0):>10,} "
              f"runs, cov {row.get('cov', 0)}, ft {row.get('ft', 0)}, "
              f"{len(row['failures'])} failures", flush=True)
        for failure in row["failures"]:
            print(f"     {failure}")
            if os.path.exists(failure):
                print(f"     once more: {program} {failure}\n"
                      f"     or, in a plain build: build/tests/fuzz/{name}_replay {failure}")
        failed += bool(row["failures"])
    print(f"fuzz: {len(chosen) - failed} of {len(chosen)} targets found nothing; {results_path}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
