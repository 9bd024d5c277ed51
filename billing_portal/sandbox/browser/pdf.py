"""Write small PDF files: text in Helvetica and lines, which is all that an invoice needs.

The format is ISO 32000's simplest subset: uncompressed, the standard fonts, Windows-1252 text.
"""

WIDTH, HEIGHT = 595, 842  # A4 in points

# Advance widths of Helvetica and Helvetica-Bold, characters 32 to 126, in thousandths of the size (Adobe's AFM).
_REGULAR = (
    "278 278 355 556 556 889 667 191 333 333 389 584 278 333 278 278 556 556 556 556 556 556 556 556 556 556 278 "
    "278 584 584 584 556 1015 667 667 722 722 667 611 778 722 278 500 667 556 833 722 778 667 778 722 667 611 722 "
    "667 944 667 667 611 278 278 278 469 556 333 556 556 500 556 556 278 556 556 222 222 500 222 833 556 556 556 "
    "556 333 500 278 556 500 722 500 500 500 334 260 334 584"
)
_BOLD = (
    "278 333 474 556 556 889 722 238 333 333 389 584 278 333 278 278 556 556 556 556 556 556 556 556 556 556 333 "
    "333 584 584 584 611 975 722 722 722 722 667 611 778 722 278 556 722 611 833 722 778 667 778 722 667 611 722 "
    "667 944 667 667 611 333 278 333 584 556 333 556 611 556 611 556 333 611 611 278 278 556 278 889 611 611 611 "
    "611 389 556 333 611 556 778 556 556 500 389 280 389 584"
)
_WIDTHS = {False: [int(each) for each in _REGULAR.split()], True: [int(each) for each in _BOLD.split()]}
_AVERAGE = 556  # for the few characters beyond 126, € and £ among them


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    table = _WIDTHS[bold]
    return sum(table[ord(each) - 32] if 32 <= ord(each) < 127 else _AVERAGE for each in text) * size / 1000


def _literal(text: str) -> bytes:
    escaped = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
    return b"(" + escaped.replace("\n", " ").encode("cp1252", errors="replace") + b")"


class Document:
    """Pages of text; coordinates are points from the top left."""

    def __init__(self) -> None:
        self._pages: list[list[bytes]] = [[]]

    def new_page(self) -> None:
        self._pages.append([])

    def text(self, x: float, y: float, text: str, *, size: float = 10, bold: bool = False, right: bool = False) -> None:
        """Write one line of text; with `right`, x is where it ends."""
        left = x - text_width(text, size, bold=bold) if right else x
        font = b"/F2" if bold else b"/F1"
        place = f"{left:.2f} {HEIGHT - y:.2f} Td ".encode()
        self._pages[-1].append(b"BT " + font + f" {size:g} Tf ".encode() + place + _literal(text) + b" Tj ET")

    def rule(self, x: float, y: float, to: float) -> None:
        self._pages[-1].append(f"0.8 G 0.7 w {x:.2f} {HEIGHT - y:.2f} m {to:.2f} {HEIGHT - y:.2f} l S".encode())

    def build(self, *, title: str) -> bytes:
        """Number the objects: catalogue, page tree, two fonts, information, then a page and its content each."""
        kids = " ".join(f"{6 + 2 * index} 0 R" for index in range(len(self._pages)))
        objects = [
            b"<< /Type /Catalog /Pages 2 0 R >>",
            f"<< /Type /Pages /Kids [{kids}] /Count {len(self._pages)} >>".encode(),
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>",
            b"<< /Title " + _literal(title) + b" /Producer (Sandbox) >>",
        ]
        for index, operations in enumerate(self._pages):
            objects.append(
                f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {WIDTH} {HEIGHT}] /Contents {7 + 2 * index} 0 R "
                "/Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> >>".encode()
            )
            stream = b"\n".join(operations)
            objects.append(b"<< /Length %d >>\nstream\n%b\nendstream" % (len(stream), stream))
        return _assemble(objects)


def _assemble(objects: list[bytes]) -> bytes:
    """Join the objects and the table of their positions."""
    content, positions = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", []
    for number, each in enumerate(objects, start=1):
        positions.append(len(content))
        content += b"%d 0 obj\n%b\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % position for position in positions)
    size = len(objects) + 1
    trailer = b"trailer\n<< /Size %d /Root 1 0 R /Info 5 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(content))
    return content + b"xref\n0 %d\n0000000000 65535 f \n" % size + table + trailer
