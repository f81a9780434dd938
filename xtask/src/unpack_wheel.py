"""Unpack parts of a wheel: WHEEL OUT FROM=TO... [--flat] [--only GLOB]... [--without GLOB]...

FROM is the start of a path in the wheel and is replaced by TO below OUT; --flat leaves out the folders in
between. --only and --without choose files by their name.
"""
import argparse
import fnmatch
import pathlib
import shutil
import zipfile

parser = argparse.ArgumentParser()
parser.add_argument("wheel")
parser.add_argument("out", type=pathlib.Path)
parser.add_argument("maps", nargs="*")
parser.add_argument("--flat", action="store_true")
parser.add_argument("--only", action="append", default=[])
parser.add_argument("--without", action="append", default=[])
arguments = parser.parse_args()

with zipfile.ZipFile(arguments.wheel) as archive:
    for entry in archive.infolist():
        path = pathlib.PurePosixPath(entry.filename)
        name = path.name
        if entry.is_dir() or path.is_absolute() or ".." in path.parts:
            continue
        if any(fnmatch.fnmatch(name, glob) for glob in arguments.without):
            continue
        if arguments.only and not any(fnmatch.fnmatch(name, glob) for glob in arguments.only):
            continue
        for start, to in (pair.split("=", 1) for pair in arguments.maps):
            if entry.filename.startswith(start):
                rest = name if arguments.flat else entry.filename[len(start):]
                target = arguments.out / to / rest
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, open(target, "wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
                break
