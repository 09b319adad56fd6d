"""The 3,755 Hanzi of GB 2312 level 1."""

from __future__ import annotations


def level_1() -> str:
    """Decode rows B0 to D7 of GB 2312, the last of which is short."""
    found = []
    for row in range(0xB0, 0xD8):
        for cell in range(0xA1, 0xFF):
            try:
                found.append(bytes([row, cell]).decode("gb2312"))
            except UnicodeDecodeError:
                continue
    return "".join(found)


LEVEL_1 = level_1()
