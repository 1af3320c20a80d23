//! Tables (Markdown, also readable as they are) and JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::goal::Judged;
use crate::harness::{Measured, Plan};
use crate::stats::Spread;

/// A duration in nanoseconds with three digits that matter.
pub fn ns(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// A ratio and its extremes: `**0.45** (0.43..0.51)`.
fn ratio(spread: Spread) -> String {
    format!("**{:.2}** ({:.2}..{:.2})", spread.median, spread.min, spread.max)
}

/// Lays `rows` out in columns under `header`.
pub fn table(header: &[String], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).chain(header.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut out = String::new();
    let mut line = |cells: &[String]| {
        for (column, width) in widths.iter().enumerate() {
            let cell = cells.get(column).map_or("", String::as_str);
            // Writing to a string cannot fail.
            let _ = write!(out, "| {cell:<width$} ");
        }
        out.push_str("|\n");
    };
    line(header);
    line(&widths.iter().map(|&width| "-".repeat(width)).collect::<Vec<_>>());
    for row in rows {
        line(row);
    }
    out
}

/// The table of one row: a line per case, a column per contender.
///
/// The first contender shows its time; the others theirs, and the ratio of the first to them.
pub fn row_table(measured: &[Measured]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for (name, _) in measured.iter().flat_map(|case| &case.contenders) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    let Some(first) = names.first().copied() else { return String::new() };
    let mut header = vec![String::new(), format!("{first}: ns (min..max)")];
    header.extend(names[1..].iter().map(|name| format!("{name}: ns **{first} / this**")));
    let cell = |case: &Measured, name: &str| {
        let Some(spread) = case.rounds_of(name).and_then(|rounds| Spread::of(rounds.iter().copied())) else {
            return "-".to_owned();
        };
        match case.ratio(first, name) {
            _ if name == first => {
                format!("{} ({}..{})", ns(spread.median), ns(spread.min), ns(spread.max))
            }
            Some(of) => format!("{} {}", ns(spread.median), ratio(of)),
            None => ns(spread.median),
        }
    };
    let line = |case: &Measured| {
        let cells = names.iter().map(|name| cell(case, name));
        std::iter::once(case.case.clone()).chain(cells).collect()
    };
    table(&header, &measured.iter().map(line).collect::<Vec<_>>())
}

/// The table of goals.
pub fn goal_table(judged: &[Judged]) -> String {
    let header = ["goal", "case", "measured (min..max)", "limit", "verdict"].map(str::to_owned);
    let rows: Vec<Vec<String>> = judged
        .iter()
        .map(|judged| {
            vec![
                judged.goal.claim.clone(),
                judged.goal.case.clone(),
                judged.ratio.map_or("-".to_owned(), ratio),
                judged.limit.clone(),
                judged.verdict.as_str().to_owned(),
            ]
        })
        .collect();
    table(&header, &rows)
}

/// Everything in one JSON value: the plan, each case with the samples of every round, and the
/// goals.
pub fn json(plan: Plan, measured: &[Measured], judged: &[Judged]) -> Value {
    let spread = |spread: Option<Spread>| match spread {
        Some(spread) => json!({ "median": spread.median, "min": spread.min, "max": spread.max }),
        None => Value::Null,
    };
    let case = |case: &Measured| {
        let first = case.contenders.first().map(|(name, _)| name.as_str()).unwrap_or_default();
        let contender = |(name, rounds): &(String, Vec<f64>)| {
            json!({
                "name": name,
                "ns": spread(Spread::of(rounds.iter().copied())),
                "first_over_this": spread(case.ratio(first, name)),
                "rounds_ns": rounds,
            })
        };
        let contenders: Vec<Value> = case.contenders.iter().map(contender).collect();
        json!({ "row": case.row, "case": case.case, "contenders": contenders })
    };
    let goal = |judged: &Judged| {
        json!({
            "claim": judged.goal.claim,
            "row": judged.goal.row,
            "case": judged.goal.case,
            "ratio": format!("{} / {}", judged.goal.over, judged.goal.under),
            "measured": spread(judged.ratio),
            "limit": judged.limit,
            "verdict": judged.verdict.as_str(),
        })
    };
    json!({
        "rounds": plan.rounds,
        "sample_ns": plan.sample.as_nanos() as u64,
        "cases": measured.iter().map(case).collect::<Vec<_>>(),
        "goals": judged.iter().map(goal).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured() -> Vec<Measured> {
        let case = |case: &str, contenders: &[(&str, f64)]| Measured {
            row: "row",
            case: case.into(),
            contenders: contenders.iter().map(|&(name, ns)| (name.into(), vec![ns; 3])).collect(),
        };
        vec![case("1", &[("a", 1.0), ("b", 2.0)]), case("1000", &[("a", 123.4)])]
    }

    #[test]
    fn a_table_has_a_column_per_contender_and_a_dash_where_one_is_missing() {
        let lines: Vec<String> = row_table(&measured()).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[2].contains("2.00 **0.50** (0.50..0.50)"), "{}", lines[2]);
        let cells: Vec<&str> = lines[3].split('|').map(str::trim).collect();
        assert_eq!(cells, ["", "1000", "123 (123..123)", "-", ""]);
    }

    #[test]
    fn json_holds_every_round() {
        let value = json(Plan::SMOKE, &measured(), &[]);
        assert_eq!(value["cases"][0]["contenders"][1]["rounds_ns"], json!([2.0, 2.0, 2.0]));
        assert_eq!(value["cases"][0]["contenders"][1]["first_over_this"]["median"], json!(0.5));
    }
}
