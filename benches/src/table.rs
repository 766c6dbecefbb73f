//! Figures side by side: a row a measure, a column a server.

/// A table that is printed when it is complete.
#[derive(Debug, Default)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<(String, Vec<Option<f64>>)>,
}

impl Table {
    pub fn new(columns: impl IntoIterator<Item = String>) -> Table {
        Table { columns: columns.into_iter().collect(), rows: Vec::new() }
    }

    /// Sets the figure of `measure` in a column.
    pub fn set(&mut self, measure: &str, column: usize, figure: f64) {
        let count = self.columns.len();
        let place = self.rows.iter().position(|(known, _)| known == measure).unwrap_or_else(|| {
            self.rows.push((measure.to_owned(), vec![None; count]));
            self.rows.len() - 1
        });
        self.rows[place].1[column] = Some(figure);
    }

    /// The table; behind each figure but the first column's how it compares with the first column's.
    pub fn print(&self) {
        let title = self.columns.iter().map(|column| format!("{column:>22}")).collect::<String>();
        println!("{:<44}{title}", "");
        for (measure, figures) in &self.rows {
            let first = figures.first().copied().flatten();
            let cells = figures.iter().enumerate().map(|(column, figure)| match (figure, first) {
                (Some(figure), Some(first)) if column > 0 => {
                    format!("{:>22}", format!("{} ({:.2}x)", shown(*figure), figure / first))
                }
                (Some(figure), _) => format!("{:>22}", shown(*figure)),
                (None, _) => format!("{:>22}", "-"),
            });
            println!("{measure:<44}{}", cells.collect::<String>());
        }
    }
}

/// With three digits or so.
fn shown(figure: f64) -> String {
    match figure.abs() {
        size if size >= 100.0 => format!("{figure:.0}"),
        size if size >= 10.0 => format!("{figure:.1}"),
        size if size >= 1.0 => format!("{figure:.2}"),
        _ => format!("{figure:.3}"),
    }
}
