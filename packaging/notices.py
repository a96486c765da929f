"""The notices of third parties that every package has. A crate without a licence text is an error."""

from collections import defaultdict

from dependencies import Crate, crates
from platforms import ROOT

# Licences whose crates sometimes carry no text, and a text that serves: with it go the authors, who hold the copyright.
STANDARD = {
    "MIT": """Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.""",
    "BSD-3-Clause": """Redistribution and use in source and binary forms, with or without modification, are permitted provided that the
following conditions are met:

1. Redistributions of source code must retain the above copyright notice, this list of conditions and the following
   disclaimer.
2. Redistributions in binary form must reproduce the above copyright notice, this list of conditions and the following
   disclaimer in the documentation and/or other materials provided with the distribution.
3. Neither the name of the copyright holder nor the names of its contributors may be used to endorse or promote products
   derived from this software without specific prior written permission.

THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES,
INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE
DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL,
SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR SERVICES;
LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY, WHETHER IN
CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE OF THIS
SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.""",
}


def standard(crate: Crate) -> str:
    choices = {word.strip("()") for word in crate.license.replace("/", " OR ").split(" ")}
    holders = ", ".join(author.split(" <")[0] for author in crate.authors) or f"the authors of {crate.name}"
    for name, text in STANDARD.items():
        if name in choices:
            return f"{name}\n\nCopyright (c) {holders}\n\n{text}"
    if "Apache-2.0" in choices:
        return (ROOT / "LICENSE").read_text().strip()
    raise SystemExit(f"{crate.id} ({crate.license}) has no text of its licence: packaging/notices.py needs one")


def notices(*packages: str) -> str:
    """Of what these packages of the workspace are compiled with. Equal texts once, with all who use them."""
    users: dict[str, list[str]] = defaultdict(list)
    others = [crate for crate in crates(*packages).values() if crate.checksum]
    for crate in others:
        for text in crate.texts() or [standard(crate)]:
            users[text].append(f"{crate.name} {crate.version} ({crate.license})")
    parts = [
        "libqwenguard contains software of third parties, under the licences below. The licence of libqwenguard itself is in"
        "\nLICENSE. What ONNX Runtime contains is listed in the files beside it, where a package has it."
        "\n\nRust's standard library (MIT OR Apache-2.0), The Rust Project Contributors: https://www.rust-lang.org"
    ]
    for text, names in users.items():
        parts.append("\n".join(names) + "\n\n" + text)
    rule = "\n\n" + "-" * 80 + "\n\n"
    return rule.join(parts) + "\n"
