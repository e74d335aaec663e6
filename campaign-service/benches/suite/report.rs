//! Figures beside their references: a table and JSON.

use crate::args::Part;
use crate::stats::{median, percentile};
use serde_json::{Value, json};
use std::path::Path;

/// Bound of a ratio.
#[derive(Clone, Copy, Debug)]
pub enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!(">= {bound}"),
            Self::AtMost(bound) => format!("<= {bound}"),
        }
    }
}

/// Number that was measured, and the values behind it.
#[derive(Clone, Debug)]
pub struct Measure {
    pub name: String,
    pub value: f64,
    pub detail: Value,
}

impl Measure {
    pub fn new(name: impl Into<String>, value: f64) -> Self {
        Self { name: name.into(), value, detail: Value::Null }
    }

    /// Creates a measure from rounds, by their median.
    pub fn of_rounds(name: impl Into<String>, rounds: &[f64]) -> Self {
        Self { name: name.into(), value: median(rounds), detail: json!({ "rounds": rounds }) }
    }

    /// Creates a measure from many repeats, by a percentile that is added to the name.
    pub fn of_repeats(name: &str, percent: f64, repeats: &[f64]) -> Self {
        let detail = json!({
            "repeats": repeats.len(),
            "p50": percentile(repeats, 50.0),
            "p90": percentile(repeats, 90.0),
            "p99": percentile(repeats, 99.0),
            "max": percentile(repeats, 100.0),
        });
        let name = format!("{name}, p{percent}");
        Self { name, value: percentile(repeats, percent), detail }
    }
}

/// Line of the table. The ratio is the value over the reference. Without a reference, the goal applies to the value
/// itself.
#[derive(Clone, Debug)]
pub struct Figure {
    pub unit: &'static str,
    pub value: Measure,
    pub reference: Option<Measure>,
    pub goal: Option<Goal>,
}

impl Figure {
    pub fn new(unit: &'static str, value: Measure) -> Self {
        Self { unit, value, reference: None, goal: None }
    }

    pub fn beside(mut self, reference: Measure) -> Self {
        self.reference = Some(reference);
        self
    }

    pub fn goal(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    fn ratio(&self) -> Option<f64> {
        self.reference.as_ref().map(|reference| self.value.value / reference.value)
    }

    fn is_met(&self) -> Option<bool> {
        self.goal.map(|goal| goal.is_met(self.ratio().unwrap_or(self.value.value)))
    }

    fn json(&self, part: &str) -> Value {
        let measure = |measure: &Measure| {
            let Measure { name, value, detail } = measure;
            json!({ "name": name, "value": value, "detail": detail })
        };
        json!({
            "part": part,
            "unit": self.unit,
            "figure": measure(&self.value),
            "reference": self.reference.as_ref().map(measure),
            "ratio": self.ratio(),
            "goal": self.goal.map(Goal::text),
            "met": self.is_met(),
        })
    }

    fn print(&self) {
        let Self { unit, value, reference, .. } = self;
        let (name, beside) = match reference {
            Some(reference) => (reference.name.as_str(), number(reference.value)),
            None => ("", String::new()),
        };
        let ratio = self.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
        let goal = self.goal.map(Goal::text).unwrap_or_default();
        let met = match self.is_met() {
            Some(true) => "met",
            Some(false) => "NOT MET",
            None => "",
        };
        let measured = number(value.value);
        println!(
            "{:<52} {measured:>11} {unit:<11} {name:<44} {beside:>11} {ratio:>7} {goal:>7} {met}",
            value.name
        );
    }
}

/// All figures measured so far.
#[derive(Default)]
pub struct Report {
    figures: Vec<(String, Figure)>,
    arguments: Value,
}

impl Report {
    pub fn new(arguments: Value) -> Self {
        Self { figures: Vec::new(), arguments }
    }

    pub fn add(&mut self, part: Part, figures: Vec<Figure>) {
        let part = format!("{part:?}").to_lowercase();
        self.figures.extend(figures.into_iter().map(|figure| (part.clone(), figure)));
    }

    pub fn print(&self) {
        println!(
            "\n{:<52} {:>11} {:<11} {:<44} {:>11} {:>7} {:>7}",
            "figure", "value", "unit", "reference", "value", "ratio", "goal"
        );
        let mut before = "";
        for (part, figure) in &self.figures {
            if part != before {
                println!("{part}");
                before = part;
            }
            figure.print();
        }
        let missed = self.figures.iter().filter(|(_, figure)| figure.is_met() == Some(false));
        println!("\n{} goals not met", missed.count());
    }

    pub fn write(&self, file: &Path) {
        let figures: Vec<Value> =
            self.figures.iter().map(|(part, figure)| figure.json(part)).collect();
        let report = json!({ "arguments": self.arguments, "figures": figures });
        std::fs::write(file, format!("{report:#}\n"))
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
    }
}

/// Formats a value with as many digits as mean something.
fn number(value: f64) -> String {
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.2}") }
}
