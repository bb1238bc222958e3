"""`make charts`: writes the golden files again, after a chart or its values changed. Look at the difference."""

from tests.charts.cases import cases, stray_files

for case in cases():
    case.golden.write_text(case.render())
for file in stray_files():
    file.unlink()
