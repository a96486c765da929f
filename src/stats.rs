//! What a guard has done and how it is.

use std::fmt::{self, Write};

use serde::Serialize;

use crate::verdict::{NO_CATEGORY, Risk};

/// Upper bounds of the buckets of times, in seconds.
const SECONDS: [f64; BUCKETS] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0];

/// Upper bounds of the buckets of counts.
const COUNTS: [f64; BUCKETS] =
    [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0];

const BUCKETS: usize = 14;

/// What a guard has done since it was opened and how it is now, see [`Guard::stats`](crate::Guard::stats).
///
/// A guard is healthy while [`oldest_wait_seconds`](Self::oldest_wait_seconds) stays small: it grows if steps hang, even
/// when nothing else shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// [`Config::name`](crate::Config::name) of the guard.
    pub name: Option<String>,
    /// Streams that are open.
    pub open_streams: usize,
    /// Streams that wait for an answer.
    pub waiting_streams: usize,
    /// Tokens that were given and are not computed.
    pub queued_tokens: usize,
    /// For how long the stream that waits longest has waited, in seconds. 0 if none waits.
    pub oldest_wait_seconds: f64,
    /// Steps: runs of the model over the new tokens of one or more streams.
    pub steps: u64,
    /// Steps that failed.
    pub failed_steps: u64,
    /// Tokens in all steps.
    pub tokens: u64,
    /// Of those, tokens whose stream had computed them before and lost them to others.
    pub recomputed_tokens: u64,
    /// Tokens that were not computed because the cache had them from an equal prefix.
    pub prefix_hit_tokens: u64,
    /// How often a stream lost its part of the cache to others.
    pub evictions: u64,
    /// Streams that expired because they were idle.
    pub expired_streams: u64,
    /// Time of a step, in seconds. Upper bounds 0.001, 0.0025, 0.005, 0.01, ... 10, 25.
    pub step_seconds: Histogram,
    /// Time between a call and the first step that works on it, in seconds. Bounds as those of `step_seconds`.
    pub queue_seconds: Histogram,
    /// Tokens in a step. Upper bounds are the powers of two from 1 to 8192.
    pub step_tokens: Histogram,
    /// Streams in a step. Bounds as those of `step_tokens`.
    pub step_streams: Histogram,
    /// The most bytes that keys and values may take.
    pub cache_bytes: u64,
    /// Bytes of the cache that open streams use.
    pub cache_used_bytes: u64,
    /// Bytes of the cache that no stream uses, but whose tokens are found if they come again. They are available.
    pub cache_unused_bytes: u64,
    /// Second opinions that were asked for. Those that are neither of the following are still awaited, or their calls were
    /// cancelled.
    pub opinions: u64,
    /// Of those, how many confirmed what was in dispute.
    pub confirmed_opinions: u64,
    /// How many lifted a violation or cleared what was uncertain.
    pub lifted_opinions: u64,
    /// How many were only reported.
    pub reported_opinions: u64,
    /// How many could not be had.
    pub failed_opinions: u64,
    /// Time of a second opinion, from when it was asked for, in seconds. Bounds as those of `step_seconds`.
    pub opinion_seconds: Histogram,
    /// Verdicts by channel, level and category, and what came of them. What never was is left out.
    pub verdicts: Vec<VerdictCount>,
}

/// How often a guard gave a verdict of one channel, level and category, and what policies made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct VerdictCount {
    /// What was judged.
    pub channel: VerdictChannel,
    /// The level: of a verdict the most probable one, of a stop or a flag the one that it counts as.
    pub risk: Risk,
    /// The category, exactly as the checkpoint spells it. `None` of safe verdicts, and where none is known.
    pub category: Option<String>,
    /// Final verdicts: one for each prompt, for each token of an answer and for each annotation. Tokens that are judged again
    /// after an answer was cut back count again.
    pub verdicts: u64,
    /// How often a host was told to stop: a prompt, an answer or an annotation whose decision became
    /// [`Decision::Stop`](crate::Decision::Stop).
    pub stops: u64,
    /// What was reported and let the answer go on: flags, and in shadow mode what would have stopped.
    pub flags: u64,
}

/// What a verdict is about, where verdicts are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum VerdictChannel {
    /// The prompt of a stream.
    Prompt,
    /// A token of an answer's thinking.
    Thinking,
    /// A token of what an answer says.
    Answer,
    /// A whole conversation, by what the user asks.
    AnnotatedPrompt,
    /// A whole conversation, by what is answered.
    AnnotatedResponse,
}

impl VerdictChannel {
    /// All of them.
    pub const ALL: [VerdictChannel; 5] = [
        VerdictChannel::Prompt,
        VerdictChannel::Thinking,
        VerdictChannel::Answer,
        VerdictChannel::AnnotatedPrompt,
        VerdictChannel::AnnotatedResponse,
    ];

    /// Whether categories are those of [`Guard::query_labels`](crate::Guard::query_labels), else of
    /// [`Guard::response_labels`](crate::Guard::response_labels).
    pub fn is_of_prompts(self) -> bool {
        matches!(self, VerdictChannel::Prompt | VerdictChannel::AnnotatedPrompt)
    }

    /// Its name where metrics name it, such as `annotated_prompt`.
    pub fn name(self) -> &'static str {
        match self {
            VerdictChannel::Prompt => "prompt",
            VerdictChannel::Thinking => "thinking",
            VerdictChannel::Answer => "answer",
            VerdictChannel::AnnotatedPrompt => "annotated_prompt",
            VerdictChannel::AnnotatedResponse => "annotated_response",
        }
    }
}

/// What became of second opinions.
#[derive(Debug)]
pub(crate) struct OpinionStats {
    pub(crate) asked: u64,
    pub(crate) confirmed: u64,
    pub(crate) lifted: u64,
    pub(crate) reported: u64,
    pub(crate) failed: u64,
    pub(crate) seconds: Histogram,
}

impl Default for OpinionStats {
    fn default() -> Self {
        let seconds = Histogram::new(&SECONDS);
        OpinionStats { asked: 0, confirmed: 0, lifted: 0, reported: 0, failed: 0, seconds }
    }
}

impl Stats {
    pub(crate) fn with_opinions(self, opinions: &OpinionStats) -> Self {
        Stats {
            opinions: opinions.asked,
            confirmed_opinions: opinions.confirmed,
            lifted_opinions: opinions.lifted,
            reported_opinions: opinions.reported,
            failed_opinions: opinions.failed,
            opinion_seconds: opinions.seconds.clone(),
            ..self
        }
    }

    pub(crate) fn with_verdicts(self, name: Option<String>, verdicts: Vec<VerdictCount>) -> Self {
        Stats { name, verdicts, ..self }
    }

    pub(crate) fn new(cache_bytes: u64) -> Self {
        Stats {
            name: None,
            open_streams: 0,
            waiting_streams: 0,
            queued_tokens: 0,
            oldest_wait_seconds: 0.0,
            steps: 0,
            failed_steps: 0,
            tokens: 0,
            recomputed_tokens: 0,
            prefix_hit_tokens: 0,
            evictions: 0,
            expired_streams: 0,
            step_seconds: Histogram::new(&SECONDS),
            queue_seconds: Histogram::new(&SECONDS),
            step_tokens: Histogram::new(&COUNTS),
            step_streams: Histogram::new(&COUNTS),
            cache_bytes,
            cache_used_bytes: 0,
            cache_unused_bytes: 0,
            opinions: 0,
            confirmed_opinions: 0,
            lifted_opinions: 0,
            reported_opinions: 0,
            failed_opinions: 0,
            opinion_seconds: Histogram::new(&SECONDS),
            verdicts: Vec::new(),
        }
    }

    /// The text format of Prometheus, version 0.0.4. All names start with `qwenguard_`. Where the guard has a
    /// [`name`](Self::name) each sample has it as its label `guard`.
    pub fn to_prometheus(&self) -> String {
        let guard = self.name.as_ref().map(|name| label("guard", name));
        let mut text = Text { out: String::new(), guard: guard.unwrap_or_default() };
        // Writing to a string cannot fail.
        let _ = self.write_prometheus(&mut text);
        text.out
    }

    #[rustfmt::skip]
    fn write_prometheus(&self, text: &mut Text) -> fmt::Result {
        text.gauge("open_streams", "Streams that are open.", self.open_streams as f64)?;
        text.gauge("waiting_streams", "Streams that wait for an answer.", self.waiting_streams as f64)?;
        text.gauge("queued_tokens", "Tokens that were given and are not computed.", self.queued_tokens as f64)?;
        text.gauge("oldest_wait_seconds", "How long the stream that waits longest has waited.", self.oldest_wait_seconds)?;
        text.counter("steps_total", "Steps run.", self.steps)?;
        text.counter("failed_steps_total", "Steps that failed.", self.failed_steps)?;
        text.counter("tokens_total", "Tokens in all steps.", self.tokens)?;
        text.counter("recomputed_tokens_total", "Tokens computed again after their cache was lost.", self.recomputed_tokens)?;
        text.counter("prefix_hit_tokens_total", "Tokens found in the cache of an equal prefix.", self.prefix_hit_tokens)?;
        text.counter("evictions_total", "Times that a stream lost its cache to others.", self.evictions)?;
        text.counter("expired_streams_total", "Streams that expired because they were idle.", self.expired_streams)?;
        text.histogram("step_seconds", "Time of a step.", &self.step_seconds)?;
        text.histogram("queue_seconds", "Time between a call and its first step.", &self.queue_seconds)?;
        text.histogram("step_tokens", "Tokens in a step.", &self.step_tokens)?;
        text.histogram("step_streams", "Streams in a step.", &self.step_streams)?;
        text.gauge("cache_bytes", "The most bytes that keys and values may take.", self.cache_bytes as f64)?;
        text.gauge("cache_used_bytes", "Bytes of the cache that open streams use.", self.cache_used_bytes as f64)?;
        text.gauge("cache_unused_bytes", "Bytes of the cache kept for tokens that may come again.", self.cache_unused_bytes as f64)?;
        text.counter("opinions_total", "Second opinions asked for.", self.opinions)?;
        text.counter("confirmed_opinions_total", "Second opinions that confirmed what was in dispute.", self.confirmed_opinions)?;
        text.counter("lifted_opinions_total", "Second opinions that lifted or cleared what was in dispute.", self.lifted_opinions)?;
        text.counter("reported_opinions_total", "Second opinions that were only reported.", self.reported_opinions)?;
        text.counter("failed_opinions_total", "Second opinions that could not be had.", self.failed_opinions)?;
        text.histogram("opinion_seconds", "Time of a second opinion.", &self.opinion_seconds)?;
        text.verdicts("verdicts_total", "Final verdicts, by what was judged.", &self.verdicts, |count| count.verdicts)?;
        text.verdicts("stops_total", "Times that the host was told to stop.", &self.verdicts, |count| count.stops)?;
        text.verdicts("flags_total", "What was reported and let go on.", &self.verdicts, |count| count.flags)
    }
}

/// How often values fell into ranges.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Histogram {
    /// Upper bounds of the ranges, inclusive and ascending.
    pub bounds: [f64; BUCKETS],
    /// How many values were above the bound before and not above this one; last, how many were above all.
    pub counts: [u64; BUCKETS + 1],
    /// Sum of all values.
    pub sum: f64,
}

impl Histogram {
    fn new(bounds: &[f64; BUCKETS]) -> Self {
        Histogram { bounds: *bounds, counts: [0; BUCKETS + 1], sum: 0.0 }
    }

    /// How many values there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub(crate) fn record(&mut self, value: f64) {
        self.counts[self.bounds.partition_point(|bound| *bound < value)] += 1;
        self.sum += value;
    }
}

/// The text format of Prometheus.
struct Text {
    out: String,
    /// The label of all samples, or nothing.
    guard: String,
}

impl Text {
    fn head(&mut self, name: &str, help: &str, kind: &str) -> fmt::Result {
        writeln!(self.out, "# HELP qwenguard_{name} {help}\n# TYPE qwenguard_{name} {kind}")
    }

    fn sample(&mut self, name: &str, labels: &str, value: impl fmt::Display) -> fmt::Result {
        let comma = if self.guard.is_empty() || labels.is_empty() { "" } else { "," };
        match self.guard.is_empty() && labels.is_empty() {
            true => writeln!(self.out, "qwenguard_{name} {value}"),
            false => writeln!(self.out, "qwenguard_{name}{{{}{comma}{labels}}} {value}", self.guard),
        }
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.head(name, help, "gauge")?;
        self.sample(name, "", value)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.head(name, help, "counter")?;
        self.sample(name, "", value)
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        self.head(name, help, "histogram")?;
        let (bucket, count) = (format!("{name}_bucket"), histogram.count());
        let mut below = 0;
        for (bound, count) in histogram.bounds.iter().zip(&histogram.counts) {
            below += count;
            self.sample(&bucket, &label("le", &bound.to_string()), below)?;
        }
        self.sample(&bucket, &label("le", "+Inf"), count)?;
        self.sample(&format!("{name}_sum"), "", histogram.sum)?;
        self.sample(&format!("{name}_count"), "", count)
    }

    fn verdicts(
        &mut self,
        name: &str,
        help: &str,
        counts: &[VerdictCount],
        number: impl Fn(&VerdictCount) -> u64,
    ) -> fmt::Result {
        self.head(name, help, "counter")?;
        for count in counts.iter().filter(|count| number(count) > 0) {
            let category = count.category.as_deref().unwrap_or(NO_CATEGORY);
            let (channel, risk) = (label("channel", count.channel.name()), label("level", &count.risk.to_string()));
            self.sample(name, &format!("{channel},{risk},{}", label("category", category)), number(count))?;
        }
        Ok(())
    }
}

fn label(name: &str, value: &str) -> String {
    format!("{name}=\"{}\"", value.replace('\\', r"\\").replace('"', "\\\"").replace('\n', r"\n"))
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn filled() -> Stats {
        let mut stats = Stats::new(1 << 20);
        stats.steps = 3;
        stats.oldest_wait_seconds = 0.25;
        for value in [0.0005, 0.001, 0.0011, 3.0, 99.0] {
            stats.step_seconds.record(value);
        }
        let count = |channel, risk, category: Option<&str>, verdicts, stops| VerdictCount {
            channel,
            risk,
            category: category.map(str::to_owned),
            verdicts,
            stops,
            flags: 0,
        };
        stats.verdicts = vec![
            count(VerdictChannel::Prompt, Risk::Safe, None, 7, 0),
            count(VerdictChannel::Answer, Risk::Unsafe, Some("Sexual Content or Sexual Acts"), 5, 1),
        ];
        stats
    }

    #[test]
    fn a_histogram_counts_values_up_to_and_including_a_bound() {
        let times = filled().step_seconds;
        assert_eq!((times.counts[0], times.counts[1], times.counts[11], times.counts[BUCKETS]), (2, 1, 1, 1));
        assert_eq!(times.count(), 5);
        assert!((times.sum - 102.0026).abs() < 1e-9);
        assert!(SECONDS.is_sorted() && COUNTS.is_sorted());
    }

    /// The rules of the text format: one HELP and one TYPE before all samples of a name, each sample once, names of
    /// the allowed letters, counters end in `_total`, buckets are cumulative and complete, the end is a line's end.
    #[test]
    fn the_text_is_what_prometheus_reads() {
        let samples = read(&filled().to_prometheus());
        assert_eq!(samples["qwenguard_steps_total"], 3.0);
        assert_eq!(samples["qwenguard_oldest_wait_seconds"], 0.25);
        let bucket = |bound: &str| samples[&format!("qwenguard_step_seconds_bucket{{le=\"{bound}\"}}")];
        assert_eq!([bucket("0.001"), bucket("0.0025"), bucket("2.5"), bucket("5"), bucket("25")], [2., 3., 3., 4., 4.]);
        assert_eq!([bucket("+Inf"), samples["qwenguard_step_seconds_count"]], [5.0, 5.0]);
        let safe = r#"{channel="prompt",level="Safe",category="None"}"#;
        let found = r#"{channel="answer",level="Unsafe",category="Sexual Content or Sexual Acts"}"#;
        assert_eq!(samples[&format!("qwenguard_verdicts_total{safe}")], 7.0);
        assert_eq!(samples[&format!("qwenguard_verdicts_total{found}")], 5.0);
        assert_eq!(samples[&format!("qwenguard_stops_total{found}")], 1.0);
        assert!(!samples.contains_key(&format!("qwenguard_stops_total{safe}")));
    }

    #[test]
    fn the_name_of_the_guard_is_a_label_of_every_sample() {
        let text = Stats { name: Some("a \"b\" \\ c\nd".to_owned()), ..filled() }.to_prometheus();
        let guard = r#"{guard="a \"b\" \\ c\nd""#;
        assert!(text.lines().all(|line| line.starts_with('#') || line.contains(guard)), "{text}");
        assert_eq!(read(&text).len(), read(&filled().to_prometheus()).len());
        assert!(text.contains(&format!("qwenguard_steps_total{guard}}} 3\n")));
        assert!(text.contains(&format!("qwenguard_step_seconds_bucket{guard},le=\"0.001\"}} 2\n")));
        assert!(text.contains(&format!("qwenguard_verdicts_total{guard},channel=\"prompt\",level=\"Safe\",")));
    }

    fn read(text: &str) -> HashMap<String, f64> {
        assert!(text.ends_with('\n') && !text.contains("\n\n"));
        let (mut family, mut kind) = ("", "");
        let (mut families, mut samples) = (HashSet::new(), HashMap::new());
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                (family, kind) = (help.split_once(' ').unwrap().0, "");
                assert!(families.insert(family), "{line}");
                let letter = |letter: char| letter.is_ascii_lowercase() || letter == '_';
                assert!(family.strip_prefix("qwenguard_").unwrap().chars().all(letter), "{line}");
            } else if let Some(typed) = line.strip_prefix("# TYPE ") {
                let (name, of) = typed.split_once(' ').unwrap();
                assert_eq!((name, kind), (family, ""), "{line}");
                assert_eq!(name.ends_with("_total"), of == "counter", "{line}");
                kind = of;
            } else {
                let (name, value) = line.rsplit_once(' ').unwrap();
                let plain = name.split('{').next().unwrap();
                assert!(plain == name || name.ends_with("\"}"), "{line}");
                let suffix = plain.strip_prefix(family).unwrap();
                let known = match kind {
                    "histogram" => {
                        suffix == "_bucket" && name.contains("le=\"") || suffix == "_sum" || suffix == "_count"
                    }
                    _ => suffix.is_empty(),
                };
                assert!(known, "{line}");
                assert!(samples.insert(name.to_owned(), value.parse::<f64>().unwrap()).is_none(), "{line}");
            }
        }
        samples
    }

    #[test]
    fn every_number_is_exported() {
        let text = filled().to_prometheus();
        let serde_json::Value::Object(fields) = serde_json::to_value(filled()).unwrap() else { panic!() };
        for name in fields.keys().filter(|name| *name != "name") {
            let exported = |suffix: &str| text.contains(&format!("# TYPE qwenguard_{name}{suffix} "));
            assert!(exported("") || exported("_total"), "{name}");
        }
    }
}
