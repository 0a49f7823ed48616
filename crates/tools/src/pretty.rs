//! A table in Kafka's other form: columns as wide as their widest cell, each followed by a tab.

/// Head and rows; every row has as many cells as the head.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].len());
        cells.fold(head[column].len(), usize::max)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(&widths);
        let text: String = cells
            .map(|(cell, &width)| format!("{cell:<width$}\t"))
            .collect();
        text + "\n"
    };
    let mut text = line(&mut head.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}
