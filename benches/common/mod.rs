//! What the benches share.

#[allow(dead_code, reason = "not every bench uses it")]
pub(crate) mod steps;

use qwenguard::{Call, Guard, Message, Stream};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

/// Tokens of one call while a context is built.
const FILL: usize = 256;

/// Random ordinary tokens, so that no two streams share a part of the cache.
pub(crate) struct RandomTokens {
    ids: Vec<u32>,
    random: SmallRng,
}

impl RandomTokens {
    pub(crate) fn new(guard: &Guard) -> Self {
        // The ids above are special tokens, for the tokenizers that benches use.
        let ordinary = (guard.info().vocab_size - 1000) as u32;
        let ids: Vec<u32> = (300..ordinary).filter(|id| guard.token_bytes(*id).is_ok()).collect();
        RandomTokens { ids, random: SmallRng::seed_from_u64(1) }
    }

    pub(crate) fn take(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.ids[self.random.random_range(0..self.ids.len())]).collect()
    }
}

/// New streams whose conversations have `context` tokens.
pub(crate) fn streams_at(guard: &Guard, tokens: &mut RandomTokens, count: usize, context: usize) -> Vec<Stream> {
    let mut streams: Vec<Stream> = (0..count).map(|_| guard.stream().unwrap()).collect();
    for stream in &mut streams {
        stream.prompt(&[Message::user("Tell me about the sea.")]).unwrap();
        // The first push feeds the template's scaffold as well.
        stream.push_tokens(&tokens.take(1)).unwrap();
    }
    loop {
        let missing = |stream: &Stream| (context - stream.context_used()).min(FILL);
        let pieces: Vec<Vec<u32>> = streams.iter().map(|stream| tokens.take(missing(stream))).collect();
        if pieces.iter().all(Vec::is_empty) {
            return streams;
        }
        push_all(&mut streams, &pieces);
    }
}

/// Pushes a piece to each stream, all in one call.
pub(crate) fn push_all(streams: &mut [Stream], pieces: &[Vec<u32>]) {
    let calls = streams.iter_mut().zip(pieces.iter().map(|piece| Call::Tokens(piece)));
    for result in Stream::call_all(calls) {
        result.unwrap();
    }
}

/// Bytes of physical memory that this process uses, of files that it maps or of its own (`anonymous`); Linux only.
#[allow(dead_code, reason = "not every bench uses it")]
pub(crate) fn resident_bytes(anonymous: bool) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = if anonymous { "RssAnon:" } else { "RssFile:" };
    let size = status.lines().find_map(|line| line.strip_prefix(field));
    size.and_then(|size| size.trim().strip_suffix(" kB")?.parse::<usize>().ok()).map_or(0, |kib| kib << 10)
}
