#!/usr/bin/env python3
"""Makes unicode.csv from an unpacked Unicode character database.

usage: make.py DIRECTORY > unicode.csv

DIRECTORY holds UnicodeData.txt, Blocks.txt, Scripts.txt, DerivedAge.txt and
EastAsianWidth.txt. README.md beside this file says where they come from.
"""
import csv
import sys
from pathlib import Path

HEADER = [
    "code_point", "name", "category", "combining_class", "bidi_class", "decomposition",
    "numeric_value", "unicode_1_name", "uppercase", "lowercase", "titlecase",
    "block", "script", "age", "east_asian_width",
]


def code_point(text):
    """Six hexadecimal digits, so that byte order is the order of numbers."""
    return f"{int(text, 16):06X}" if text else ""


def ranges(path, default):
    """A property file of lines `FROM[..TO] ; VALUE # comment`, as code point -> value."""
    values = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        line = line.split("#")[0].strip()
        if line:
            span, value = (part.strip() for part in line.split(";"))
            first, _, last = span.partition("..")
            for point in range(int(first, 16), int(last or first, 16) + 1):
                values[point] = value
    return lambda point: values.get(point, default)


def main():
    directory = Path(sys.argv[1])
    block = ranges(directory / "Blocks.txt", "No_Block")
    script = ranges(directory / "Scripts.txt", "Unknown")
    age = ranges(directory / "DerivedAge.txt", "")
    width = ranges(directory / "EastAsianWidth.txt", "N")
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(HEADER)
    for line in (directory / "UnicodeData.txt").read_text(encoding="utf-8").splitlines():
        (text, name, category, combining, bidi, decomposition, _decimal, _digit, numeric,
         _mirrored, unicode_1_name, _comment, upper, lower, title) = line.split(";")
        # `<..., First>` and `<..., Last>` stand for ranges whose characters have no entry of
        # their own: ideographs, syllables, surrogates and private use.
        if name.endswith(", First>") or name.endswith(", Last>"):
            continue
        point = int(text, 16)
        out.writerow([
            code_point(text), name, category, combining, bidi, decomposition, numeric,
            unicode_1_name, code_point(upper), code_point(lower), code_point(title),
            block(point), script(point), age(point), width(point),
        ])


if __name__ == "__main__":
    main()
