//! Shell completions and manual pages, made from the command line's own definition.

use clap::Command;
use clap_complete::Shell;

use crate::Failure;

/// Completions for a shell.
pub(crate) fn completions(mut program: Command, shell: Shell) -> Vec<u8> {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut program, "qwenguard", &mut out);
    out
}

/// The manual page of the program or of one of its commands, in roff.
pub(crate) fn man(program: Command, command: Option<&str>) -> Result<Vec<u8>, Failure> {
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let page = match command {
        None => program,
        Some(name) => match program.find_subcommand(name) {
            Some(command) => command.clone(),
            None => return Err(Failure::Message(format!("there is no command {name:?}"))),
        },
    };
    let mut out = Vec::new();
    clap_mangen::Man::new(page).render(&mut out)?;
    Ok(out)
}
