//! Aligned columns.

use unicode_width::UnicodeWidthStr as _;

/// Rows as lines, `indent` spaces in, columns two spaces apart; colours do not count as width.
pub fn render(rows: &[Vec<String>], indent: usize) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .filter_map(|row| row.get(column))
                .map(|cell| visible(cell))
                .max()
                .unwrap_or_default()
        })
        .collect();
    let mut out = String::new();
    for row in rows {
        let mut line = " ".repeat(indent);
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.push_str(&" ".repeat(width - visible(cell) + 2));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// Columns that `text` takes up without its colours.
fn visible(text: &str) -> usize {
    let mut width = 0;
    let mut rest = text;
    while let Some(at) = rest.find("\x1b[") {
        width += rest[..at].width();
        rest = rest[at..].find('m').map_or("", |end| &rest[at + end + 1..]);
    }
    width + rest.width()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_whatever_the_colours_and_alphabets() {
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        let text = render(
            &[
                row(["NAME", "X"]),
                row(["\x1b[31mab\x1b[0m", "1"]),
                row(["日本語", "2"]),
            ],
            1,
        );
        assert_eq!(text, " NAME    X\n \x1b[31mab\x1b[0m      1\n 日本語  2\n");
    }
}
