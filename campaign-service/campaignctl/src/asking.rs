//! Questions to people on a terminal.

use crate::failure::{Exit, Failure};
use std::io::{BufRead, IsTerminal, Write};

/// Times that a question is asked before its answer counts as no.
pub const TRIES: usize = 3;

/// Answer to a question that wants yes or no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Yes,
    /// No, or an empty line.
    No,
    Other(String),
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
        Reply::No | Reply::Other(_) => Err(refused("not confirmed")),
    }
}

/// Asks until the answer is yes or no, at most [`TRIES`] times.
fn agreed(
    input: &mut impl BufRead,
    output: &mut impl Write,
    question: &str,
) -> std::io::Result<Reply> {
    for _ in 0..TRIES {
        match reply(prompt(input, output, &format!("{question} [y/N] "))?) {
            Reply::Other(typed) => not_understood(output, &typed, "answer y or n")?,
            reply => return Ok(reply),
        }
    }
    Ok(Reply::No)
}

/// Reads an answer as yes, no or another one.
pub fn reply(answer: Option<String>) -> Reply {
    let Some(answer) = answer else { return Reply::End };
    match answer.to_lowercase().as_str() {
        "y" | "yes" => Reply::Yes,
        "" | "n" | "no" => Reply::No,
        _ => Reply::Other(answer),
    }
}

/// Tells that an answer was not understood.
pub fn not_understood(output: &mut impl Write, typed: &str, wanted: &str) -> std::io::Result<()> {
    writeln!(output, "{:?} is no answer; {wanted}", crate::text::clean(typed))
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
