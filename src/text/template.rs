//! The checkpoint's chat template.

use minijinja::{Environment, UndefinedBehavior, Value, context, syntax::SyntaxConfig};

use super::Message;
use crate::{Error, Result};

const NAME: &str = "chat_template.jinja";

/// A compiled chat template.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// Compiles a template; the error says where it is wrong.
    pub(crate) fn new(source: &str) -> Result<Self, String> {
        let mut environment = Environment::new();
        // As Hugging Face renders templates: blocks leave no lines behind, and Python's string methods.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|error| error.to_string())?);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| format!("{error:#}"))?;
        Ok(ChatTemplate { environment })
    }

    /// Renders messages as the official code does: no generation prompt, thinking off.
    pub(crate) fn render(&self, messages: &[Message]) -> Result<String> {
        let template = self.environment.get_template(NAME);
        let rendered = template.and_then(|template| {
            let message = |message: &Message| context! { role => &*message.role, content => &*message.content };
            let messages: Vec<Value> = messages.iter().map(message).collect();
            template.render(context! { messages, add_generation_prompt => false, enable_thinking => false })
        });
        rendered.map_err(|error| Error::Conversation(format!("the chat template refuses it: {error:#}")))
    }
}
