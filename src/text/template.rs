//! The checkpoint's chat template.

use minijinja::{
    Environment, UndefinedBehavior, Value, context,
    machinery::{Token, tokenize},
    syntax::SyntaxConfig,
};

use super::Message;
use crate::{Error, Result, bundle::limits};

const NAME: &str = "chat_template.jinja";

/// How deep calls of macros may go, by minijinja's measure: a loop counts one, a macro ten or more.
const RECURSION: usize = 100;

/// The longest reason in an error, in characters: a template chooses it.
const REASON: usize = 500;

/// A compiled chat template.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// Compiles a template; the error says where it is wrong.
    pub(crate) fn new(source: &str) -> Result<Self, String> {
        // As Hugging Face renders templates: blocks leave no lines behind, and Python's string methods.
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        let syntax = syntax.map_err(|error| error.to_string())?;
        check_size(source, &syntax)?;
        let mut environment = Environment::new();
        environment.set_debug(false);
        environment.set_recursion_limit(RECURSION);
        environment.set_syntax(syntax);
        environment.set_unknown_method_callback(|state, value, method, arguments| match method {
            // It pads to any width, unseen by the fuel.
            "format" => Err(minijinja::ErrorKind::UnknownMethod.into()),
            _ => minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments),
        });
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.add_function("raise_exception", |message: String| -> Result<String, minijinja::Error> {
            Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned(NAME, source.to_owned()).map_err(|error| reason(&error))?;
        Ok(ChatTemplate { environment })
    }

    /// Renders messages as the official code does: no generation prompt, thinking off.
    pub(crate) fn render(&self, messages: &[Message]) -> Result<String> {
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(fuel(messages)));
        let rendered = environment.get_template(NAME).and_then(|template| {
            let message = |message: &Message| context! { role => &*message.role, content => &*message.content };
            let messages: Vec<Value> = messages.iter().map(message).collect();
            template.render(context! { messages, add_generation_prompt => false, enable_thinking => false })
        });
        rendered.map_err(|error| Error::Conversation(format!("{NAME} refuses it: {}", reason(&error))))
    }
}

/// What rendering may cost.
fn fuel(messages: &[Message]) -> u64 {
    let bytes: usize = messages.iter().map(|message| message.role.len() + message.content.len()).sum();
    limits::TEMPLATE_FUEL + limits::TEMPLATE_FUEL_A_MESSAGE * messages.len() as u64 + bytes as u64
}

/// What a template's error says, in one line.
fn reason(error: &minijinja::Error) -> String {
    let words = error.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|character| !character.is_control()).take(REASON).collect()
}

/// minijinja compiles an expression, and what is nested in statements, by recursion. So that no template is too much for
/// any thread's stack, both are limited before.
fn check_size(source: &str, syntax: &SyntaxConfig) -> Result<(), String> {
    let mut statements = Vec::new();
    let (mut tokens, mut brackets, mut begins, mut sets) = (0, 0usize, false, false);
    for token in tokenize(source, false, syntax.clone()) {
        let (token, span) = token.map_err(|error| reason(&error))?;
        let too = |what: &str, limit: usize| Err(format!("line {}: {what}, the limit is {limit}", span.start_line));
        tokens += 1;
        match token {
            Token::TemplateData(_) => tokens = 0,
            Token::VariableStart | Token::BlockStart => (tokens, brackets, sets) = (0, 0, false),
            // `{% set name %}` without a value goes on up to its `endset`.
            Token::BlockEnd if sets => statements.push(1),
            Token::Assign if brackets == 0 => sets = false,
            Token::ParenOpen | Token::BracketOpen | Token::BraceOpen => brackets += 1,
            Token::ParenClose | Token::BracketClose | Token::BraceClose => brackets = brackets.saturating_sub(1),
            Token::Ident("set") if begins => sets = true,
            Token::Ident(name) if begins => count_statement(&mut statements, name),
            _ => {}
        }
        begins = matches!(token, Token::BlockStart);
        if tokens > limits::TEMPLATE_TAG_TOKENS {
            return too("too many words and signs in one tag", limits::TEMPLATE_TAG_TOKENS);
        }
        if brackets > limits::TEMPLATE_BRACKETS {
            return too("brackets are nested too deeply", limits::TEMPLATE_BRACKETS);
        }
        if statements.iter().sum::<usize>() > limits::TEMPLATE_DEPTH {
            return too("statements are nested too deeply", limits::TEMPLATE_DEPTH);
        }
    }
    Ok(())
}

/// Keeps, for every statement that is open, the levels it takes.
fn count_statement(statements: &mut Vec<usize>, name: &str) {
    match name {
        "for" | "if" | "with" | "filter" | "macro" | "call" | "block" | "autoescape" => statements.push(1),
        "elif" => {
            if let Some(levels) = statements.last_mut() {
                *levels += 1;
            }
        }
        name if name.starts_with("end") => drop(statements.pop()),
        _ => {}
    }
}
