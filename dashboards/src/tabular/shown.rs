//! What people see of a table: fewer columns, rounded values with their spread, units in the heads.

use super::{Show, Style, Tabular, Value};
use crate::format;
use crate::table::Align;

/// The table as text.
pub(super) struct Shown {
    pub(super) heads: Vec<String>,
    pub(super) aligns: Vec<Align>,
    pub(super) rows: Vec<Vec<String>>,
}

/// Columns for people that have a value in some row.
pub(super) fn shown(table: &Tabular) -> Shown {
    let visible: Vec<usize> = (0..table.columns.len())
        .filter(|place| table.columns[*place].show == Show::All)
        .filter(|place| table.rows.is_empty() || table.rows.iter().any(|row| row[*place] != Value::None))
        .collect();
    let aligns = visible.iter().map(|place| {
        let column = &table.columns[*place];
        let words = column.kind == super::Kind::Text || column.kind == super::Kind::Bool;
        if words { Align::Left } else { Align::Right }
    });
    Shown {
        heads: visible.iter().map(|place| table.columns[*place].head.clone()).collect(),
        aligns: aligns.collect(),
        rows: table.rows.iter().map(|row| visible.iter().map(|place| cell(table, row, *place)).collect()).collect(),
    }
}

fn cell(table: &Tabular, row: &[Value], place: usize) -> String {
    let style = table.columns[place].style;
    let words = words(&row[place], style);
    let spread = table.columns.get(place + 1).filter(|next| next.show == Show::Spread).map(|_| &row[place + 1]);
    match spread {
        Some(Value::Number(spread)) => format!("{words} ± {}", number(*spread, unsigned(style))),
        _ => words,
    }
}

/// A spread has no sign.
fn unsigned(style: Style) -> Style {
    if style == Style::Points { Style::Percent } else { style }
}

/// A value as people read it.
pub(super) fn words(value: &Value, style: Style) -> String {
    match (value, style) {
        (Value::None, Style::Mark) => String::new(),
        (Value::None, _) => "–".to_owned(),
        (Value::Bool(yes), Style::Mark) => if *yes { "yes" } else { "" }.to_owned(),
        (Value::Bool(yes), _) => if *yes { "yes" } else { "no" }.to_owned(),
        (Value::Count(count), Style::Thousands) => format::count(*count),
        (Value::Count(count), _) => count.to_string(),
        (Value::Number(value), style) => number(*value, style),
        (Value::Text(words), _) => words.clone(),
    }
}

fn number(value: f64, style: Style) -> String {
    match style {
        Style::Percent => format::percent(Some(value)),
        Style::Points => format::points(value * 100.0),
        Style::Decimals(digits) => format::decimals(Some(value), digits),
        Style::Rate => format::rate(Some(value)),
        Style::Duration => format::duration(value),
        Style::Plain | Style::Thousands | Style::Mark | Style::YesNo => format!("{value}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tabular::{Column, Kind};

    #[test]
    fn people_see_spreads_and_no_empty_columns() {
        let table = Tabular {
            columns: vec![
                Column::new("a", "a (%)", Kind::Number, Style::Percent),
                Column::spread("a_std", Style::Percent),
                Column::new("b", "b", Kind::Number, Style::Plain),
                Column::hidden("c", Kind::Count),
                Column::new("d", "d", Kind::Bool, Style::Mark),
            ],
            rows: vec![
                vec![Value::Number(0.8125), Value::Number(0.01), Value::None, Value::Count(1), Value::Bool(true)],
                vec![Value::Number(0.5), Value::None, Value::None, Value::Count(2), Value::Bool(false)],
            ],
            ..Tabular::default()
        };
        let shown = shown(&table);
        assert_eq!(shown.heads, ["a (%)", "d"]);
        assert_eq!(shown.rows, [["81.25 ± 1.00", "yes"], ["50.00", ""]]);
        assert_eq!(shown.aligns, [Align::Right, Align::Left]);
    }

    #[test]
    fn values_have_their_style() {
        for (value, style, expected) in [
            (Value::Number(0.706), Style::Percent, "70.60"),
            (Value::Number(-0.0123), Style::Points, "−1.23"),
            (Value::Number(0.0123), Style::Points, "+1.23"),
            (Value::Count(568_740_352), Style::Thousands, "568.7 M"),
            (Value::Count(224), Style::Plain, "224"),
            (Value::Number(0.75), Style::Plain, "0.75"),
            (Value::Number(7_620.0), Style::Duration, "2 h 07 min"),
            (Value::None, Style::Percent, "–"),
            (Value::Bool(false), Style::YesNo, "no"),
        ] {
            assert_eq!(words(&value, style), expected, "{value:?} {style:?}");
        }
    }
}
