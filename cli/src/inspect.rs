//! `qwenguard inspect`: what a bundle is.

use std::io::Write;

use qwenguard::{Guard, Info, Labels};

use crate::{Failure, look::Look};

pub(crate) fn run(guard: &Guard) -> Result<(), Failure> {
    let Info {
        bundle,
        variant,
        source,
        source_sha256,
        exporter,
        architecture,
        weights,
        cache,
        layers,
        hidden_size,
        heads,
        kv_heads,
        head_dim,
        vocab_size,
        context,
        cache_bytes_per_token,
        runtime,
        provider,
        nodes,
        second_opinion,
        ..
    } = guard.info();
    let look = Look::of_output();
    let mut out = std::io::stdout().lock();
    let mut line = |name: &str, value: String| writeln!(out, "{name:<12}{}", look.line(&value));
    line("bundle", bundle.clone())?;
    line("variant", variant.clone())?;
    line("source", source.clone())?;
    for (file, digest) in source_sha256 {
        line("", format!("{file} sha256 {digest}"))?;
    }
    line("exporter", exporter.clone())?;
    line("model", format!("{architecture}, {layers} layers, hidden size {hidden_size}, vocabulary {vocab_size}"))?;
    line("heads", format!("{heads} query, {kv_heads} key and value, {head_dim} values each"))?;
    line("context", format!("{context} tokens"))?;
    line("weights", weights.clone())?;
    line("cache", format!("{cache}, {cache_bytes_per_token} bytes a token"))?;
    line("prompts", labels(guard.query_labels()))?;
    line("answers", labels(guard.response_labels()))?;
    line("provider", provider.clone())?;
    for (name, count) in nodes {
        line("", format!("{count} nodes on {name}"))?;
    }
    line("runtime", runtime.clone())?;
    if let Some(bundle) = second_opinion {
        line("behind it", bundle.clone())?;
    }
    out.flush()?;
    Ok(())
}

fn labels(labels: &Labels) -> String {
    let risks: Vec<String> = labels.risks().iter().map(ToString::to_string).collect();
    format!("{}; {}", risks.join(", "), labels.categories().join(", "))
}
