"""Starts both sides of one run of faultline-micro and hands their figures back."""

import json
import subprocess

LIMIT_S = 120


class Place:
    """Where the two sides run: both on loopback, or each in a namespace of its own on a LAN."""

    def __init__(self, lan=None, hosts=None):
        self._lan = lan
        self.address = hosts["h2"] if lan else "127.0.0.1"

    def words(self, host):
        return ["nsenter", f"--net={self._lan.netns(host)}"] if self._lan else []


def _finish(process, words):
    output, errors = process.communicate(timeout=LIMIT_S)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(words)}: exit status {process.returncode}\n{errors}{output}")
    return json.loads(output.splitlines()[-1])


def run_pair(program, arguments, place=Place()):
    """One run; returns {"destination": figures, "source": figures} as faultline-micro prints them."""
    arguments = [str(argument) for argument in arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    words = [*place.words("h2"), str(program), "destination", *arguments,
             "--listen", f"{place.address}:0"]
    destination = subprocess.Popen(words, **pipes)
    source = None
    try:
        line = destination.stdout.readline()
        if not line.startswith("listening "):
            raise RuntimeError(f"{' '.join(words)}: {line}{destination.communicate(timeout=5)[1]}")
        source_words = [*place.words("h1"), str(program), "source", *arguments,
                        "--to", line.split()[1]]
        source = subprocess.Popen(source_words, **pipes)
        # The destination first: if it has failed, it says why, and the source only lost its peer.
        return {"destination": _finish(destination, words), "source": _finish(source, source_words)}
    finally:
        for process in (destination, source):
            if process is not None:
                process.kill()
                process.communicate()
