//! Figures: medians, ratios, a table and JSON.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// What was measured, in the order it was first.
pub struct Report {
    contacts: usize,
    rounds: usize,
    names: Vec<&'static str>,
    figures: BTreeMap<&'static str, Vec<f64>>,
}

impl Report {
    pub fn new(contacts: usize, rounds: usize) -> Self {
        Self { contacts, rounds, names: Vec::new(), figures: BTreeMap::new() }
    }

    /// Adds a figure, in contacts a second.
    pub fn add(&mut self, name: &'static str, per_second: f64) {
        println!("  {name:<32} {per_second:>10.0} contacts/s");
        if !self.names.contains(&name) {
            self.names.push(name);
        }
        self.figures.entry(name).or_default().push(per_second);
    }

    fn median(&self, name: &str) -> f64 {
        let mut figures = self.figures[name].clone();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    }

    fn ratios(&self, name: &str) -> [(&'static str, f64); 2] {
        ["floor-textbook", "floor-block"]
            .map(|floor| (floor, self.median(name) / self.median(floor)))
    }

    pub fn print(&self) {
        println!("\nmedians of {} rounds, {} contacts each", self.rounds, self.contacts);
        println!("{:<32} {:>12} {:>12} {:>12}", "", "contacts/s", "/textbook", "/block");
        for name in &self.names {
            let [(_, textbook), (_, block)] = self.ratios(name);
            println!("{name:<32} {:>12.0} {textbook:>12.2} {block:>12.2}", self.median(name));
        }
    }

    pub fn write(&self, file: &Path) {
        let figures: BTreeMap<&str, Value> = self
            .names
            .iter()
            .map(|name| {
                let ratios: BTreeMap<&str, f64> = self.ratios(name).into_iter().collect();
                let figures = json!({
                    "contacts_per_second": self.median(name),
                    "rounds": self.figures[name],
                    "ratio_to": ratios,
                });
                (*name, figures)
            })
            .collect();
        let report = json!({ "contacts": self.contacts, "figures": figures });
        std::fs::write(file, format!("{report:#}\n"))
            .unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
        println!("\nwritten to {}", file.display());
    }
}
