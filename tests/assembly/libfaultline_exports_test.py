"""libfaultline.so shows exactly the functions of the public header, all under one version."""
import re
import subprocess
import sys

library, header = sys.argv[1:]
listing = subprocess.run(["nm", "-D", "--defined-only", library], check=True, capture_output=True,
                         text=True).stdout
symbols = [line.split()[-1] for line in listing.splitlines() if " A " not in line]
exported = sorted(symbol.split("@")[0] for symbol in symbols)
declared = sorted(set(re.findall(r"\b(faultline_\w+)\(", open(header).read())))

assert declared, "no function found in the header"
assert exported == declared, set(exported) ^ set(declared)
assert all(symbol.endswith("@@FAULTLINE_0") for symbol in symbols), symbols
dynamic = subprocess.run(["readelf", "-d", library], check=True, capture_output=True,
                         text=True).stdout
assert "[libfaultline.so.0]" in dynamic, dynamic
