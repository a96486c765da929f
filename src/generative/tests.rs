//! Both heads of a bundle on the same rows.

use super::Rendered;
use crate::{
    config::Config,
    engine::{Batch, Read},
    opened::{Heads, Opened},
    text::Message,
};

/// Candidates are computed from their rows of the head in fp32, whatever the precision of the whole head.
#[test]
fn candidates_have_the_logits_of_the_whole_head() {
    for (precision, tolerance) in [("fp32", 1e-4), ("int8", 0.04), ("int4", 0.04)] {
        let mut largest = 0f32;
        for checkpoint in ["tied-bf16", "untied-fp16", "copied-bf16", "trained-bf16"] {
            let folder = format!("{}/target/golden-gen/{checkpoint}-{precision}", env!("CARGO_MANIFEST_DIR"));
            let shared = Opened::folder(folder.as_ref(), &Config::default()).unwrap();
            let Heads::Gen(model) = &shared.heads else { panic!("{folder}: not of the variant gen") };
            let messages = [Message::user("How is bread baked?"), Message::assistant("With flour, water and time.")];
            let ids = Rendered::new(&shared, &messages).unwrap().ids;
            let mut sequence = shared.engine.sequence().unwrap();
            let read = Read { heads: [model.candidates, model.next_token].into_iter().collect(), from: ids.len() - 24 };
            let pending = sequence.begin_append(ids, read, None, &mut Batch::default()).unwrap();
            let logits = sequence.complete(pending).unwrap();
            let (candidates, all) = (logits.head(model.candidates), logits.head(model.next_token));
            assert_eq!((candidates.nrows(), all.nrows()), (24, 24));
            // Probabilities depend on differences of logits, and these on how far logits spread.
            let spread = all.std(0.0).max(1.0);
            for (candidates, all) in candidates.outer_iter().zip(all.outer_iter()) {
                for (logit, token) in candidates.iter().zip(&*model.tokens) {
                    largest = largest.max((logit - all[*token as usize]).abs() / spread);
                }
            }
        }
        println!("{precision}: candidates differ from the whole head by {largest:.1e} at most");
        assert!(largest <= tolerance, "{precision}: {largest}");
    }
}
