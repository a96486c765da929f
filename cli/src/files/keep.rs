//! Which rows are written.

use qwenguard::{Guard, Risk};
use serde::Serialize;

use super::{message, verdict::Verdict};
use crate::Failure;

/// What is asked of a row that is written. Without any of it all are, with it those for which all of it holds.
#[derive(clap::Args, Debug)]
pub(super) struct Filters {
    /// Write only rows of these levels; `error` stands for rows that could not be judged.
    #[arg(long, value_name = "LEVELS", value_delimiter = ',', value_enum, requires = "out")]
    keep: Vec<Level>,
    /// Write only rows for which the model names this category, or one of these.
    #[arg(long, value_name = "NAME", requires = "out")]
    category: Vec<String>,
    /// Leave out rows for which the model names this category, or one of these.
    #[arg(long, value_name = "NAME", requires = "out")]
    without_category: Vec<String>,
    /// Write only rows that are Unsafe with at most this probability.
    #[arg(long, value_name = "P", value_parser = probability, requires = "out")]
    max_unsafe: Option<f32>,
    /// Write only rows that are Safe with at least this probability.
    #[arg(long, value_name = "P", value_parser = probability, requires = "out")]
    min_safe: Option<f32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
enum Level {
    Safe,
    Controversial,
    Unsafe,
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Safe => "Safe",
            Level::Controversial => "Controversial",
            Level::Unsafe => "Unsafe",
            Level::Error => "not judged",
        }
    }
}

/// [`Filters`], with categories that the guard knows.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Keep {
    levels: Vec<Level>,
    categories: Vec<String>,
    without_categories: Vec<String>,
    max_unsafe: Option<f32>,
    min_safe: Option<f32>,
}

fn probability(text: &str) -> Result<f32, String> {
    match text.parse::<f32>() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err("not a probability from 0 to 1".into()),
    }
}

impl Filters {
    /// Refuses categories that the guard does not know: no row would have them.
    pub(super) fn read(&self, guard: &Guard) -> Result<Keep, Failure> {
        let known: Vec<&String> =
            guard.query_labels().categories().iter().chain(guard.response_labels().categories()).collect();
        for name in self.category.iter().chain(&self.without_category) {
            if !known.contains(&name) {
                let mut known: Vec<&str> = known.iter().map(|name| &***name).collect();
                known.sort_unstable();
                known.dedup();
                return Err(message(format!("{name:?} is no category of this guard, which has {}", known.join(", "))));
            }
        }
        Ok(Keep {
            levels: self.keep.clone(),
            categories: self.category.clone(),
            without_categories: self.without_category.clone(),
            max_unsafe: self.max_unsafe,
            min_safe: self.min_safe,
        })
    }
}

impl Keep {
    /// For people.
    pub(super) fn words(&self) -> String {
        let Keep { levels, categories, without_categories, max_unsafe, min_safe } = self;
        let mut words = Vec::new();
        if !levels.is_empty() {
            words.push(levels.iter().map(|level| level.name()).collect::<Vec<_>>().join(" or "));
        }
        if !categories.is_empty() {
            words.push(format!("with {}", categories.join(" or ")));
        }
        if !without_categories.is_empty() {
            words.push(format!("without {}", without_categories.join(" and without ")));
        }
        words.extend(max_unsafe.map(|most| format!("Unsafe with at most {most}")));
        words.extend(min_safe.map(|least| format!("Safe with at least {least}")));
        if words.is_empty() { "none, all rows are written".to_owned() } else { words.join(", and ") }
    }

    fn all(&self) -> bool {
        let Keep { levels, categories, without_categories, max_unsafe, min_safe } = self;
        levels.is_empty()
            && categories.is_empty()
            && without_categories.is_empty()
            && max_unsafe.is_none()
            && min_safe.is_none()
    }

    /// Whether a row is written. What could not be judged passes no filter but the level `error`.
    pub(super) fn keeps(&self, verdict: &Result<Verdict, String>) -> bool {
        let annotation = match verdict {
            Ok(verdict) => &verdict.annotation,
            Err(_) => return self.all() || self.levels.contains(&Level::Error),
        };
        let level = match annotation.risk {
            Risk::Safe => Level::Safe,
            Risk::Controversial => Level::Controversial,
            Risk::Unsafe => Level::Unsafe,
        };
        let named = |names: &[String]| annotation.categories.iter().any(|category| names.contains(category));
        (self.levels.is_empty() || self.levels.contains(&level))
            && (self.categories.is_empty() || named(&self.categories))
            && !named(&self.without_categories)
            && self.max_unsafe.is_none_or(|most| annotation.probability(Risk::Unsafe) <= most)
            && self.min_safe.is_none_or(|least| annotation.probability(Risk::Safe) >= least)
    }
}
