//! Questions to people on a terminal.

use crate::failure::{Exit, Failure};
use crate::text::clean;
use std::convert::Infallible;
use std::io::{BufRead, IsTerminal, Write};

/// Times that a question is asked before its answer counts as no.
const TRIES: usize = 3;

/// Answer to a question that wants yes, no, or a choice of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<T> {
    Yes,
    /// No, an empty line, or only lines that are no answer.
    No,
    Choice(T),
    /// The end of input.
    End,
}

/// Rejects a command that has to ask where there is no terminal. `flags` name what to add instead.
pub fn need_terminal(command: &str, flags: &str) -> Result<(), Failure> {
    if std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        return Ok(());
    }
    let message =
        format!("{command} asks for confirmation, and this is no terminal; nothing was done");
    Err(Failure::usage(message).next(format!("add {flags}")))
}

/// Asks on the terminal. Fails unless the answer is yes; `undone` tells what did not happen.
pub fn confirm(question: &str, undone: &str) -> Result<(), Failure> {
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stderr());
    let refused = |why: &str| Failure::new(Exit::Refused, format!("{why}; {undone}"));
    match agreed(&mut input, &mut output, question)? {
        Reply::Yes => Ok(()),
        Reply::End => Err(refused("no answer")),
        Reply::No => Err(refused("not confirmed")),
    }
}

fn agreed(
    input: &mut impl BufRead,
    output: &mut impl Write,
    question: &str,
) -> std::io::Result<Reply<Infallible>> {
    ask(input, output, &format!("{question} [y/N] "), "answer y or n", |_| None)
}

/// Asks until the answer is yes, no or a choice, at most [`TRIES`] times. `choice` reads a choice. `wanted` tells the
/// user which answers there are.
pub fn ask<T>(
    input: &mut impl BufRead,
    output: &mut impl Write,
    question: &str,
    wanted: &str,
    choice: impl Fn(&str) -> Option<T>,
) -> std::io::Result<Reply<T>> {
    for _ in 0..TRIES {
        let Some(answer) = prompt(input, output, question)? else { return Ok(Reply::End) };
        match answer.to_lowercase().as_str() {
            "y" | "yes" => return Ok(Reply::Yes),
            "" | "n" | "no" => return Ok(Reply::No),
            _ => {}
        }
        if let Some(choice) = choice(&answer) {
            return Ok(Reply::Choice(choice));
        }
        writeln!(output, "{:?} is no answer; {wanted}", clean(&answer))?;
    }
    Ok(Reply::No)
}

/// Asks a question. Returns the answer without surrounding space, or `None` at the end of input.
pub fn prompt(
    input: &mut impl BufRead,
    output: &mut impl Write,
    question: &str,
) -> std::io::Result<Option<String>> {
    write!(output, "{question}")?;
    output.flush()?;
    let mut line = String::new();
    let read = input.read_line(&mut line)?;
    Ok((read > 0).then(|| line.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_asked_again_up_to_three_times() {
        let asked = |typed: &str| {
            let mut output = Vec::new();
            let reply = agreed(&mut typed.as_bytes(), &mut output, "Go?").expect("asked");
            (reply, String::from_utf8(output).expect("text").matches("Go? [y/N]").count())
        };
        assert_eq!(asked("Yes\n"), (Reply::Yes, 1));
        assert_eq!(asked("yse\nwhat\ny\n"), (Reply::Yes, 3));
        assert_eq!(asked("a\nb\nc\ny\n"), (Reply::No, 3));
        assert_eq!(asked("\ny\n"), (Reply::No, 1));
        assert_eq!(asked("maybe\n"), (Reply::End, 2));
    }
}
