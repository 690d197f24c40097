//! `command`: anything of the monitor's table, for what has no verb here.

use crate::cluster::Connection;
use crate::exit::Failure;
use crate::output::Output;
use serde_json::{Value, json};

#[derive(clap::Args, Debug)]
pub(crate) struct RawArgs {
    /// A JSON object with "prefix", or the words of the command followed by NAME=VALUE; nothing lists the table
    #[arg(value_name = "COMMAND", trailing_var_arg = true)]
    words: Vec<String>,
}

pub(crate) async fn run(
    args: RawArgs,
    connection: &Connection,
    output: &Output,
) -> Result<(), Failure> {
    let answer = connection.command(parse(&args.words)?).await?;
    output.show_text(&answer, |answer| match answer {
        Value::String(sentence) => sentence.clone(),
        value => format!("{value:#}"),
    });
    Ok(())
}

fn parse(words: &[String]) -> Result<Value, Failure> {
    match words {
        [] => Ok(json!({"prefix": "get_command_descriptions"})),
        [text] if text.trim_start().starts_with('{') => serde_json::from_str(text)
            .map_err(|error| Failure::usage(format!("the command is not JSON: {error}"))),
        words => {
            let mut prefix = Vec::new();
            let mut command = json!({});
            for word in words {
                match word.split_once('=') {
                    Some((name, value)) => command[name] = json!(value),
                    None => prefix.push(word.as_str()),
                }
            }
            command["prefix"] = json!(prefix.join(" "));
            Ok(command)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_json_are_the_same_command() {
        let words = |text: &str| {
            parse(&text.split(' ').map(ToString::to_string).collect::<Vec<_>>()).expect("a command")
        };
        let expected = json!({"prefix": "osd pool get", "pool": "p"});
        assert_eq!(words("osd pool get pool=p"), expected);
        assert_eq!(parse(&[expected.to_string()]), Ok(expected));
        assert_eq!(parse(&["{".to_string()]).expect_err("broken").exit_code(), 2);
    }
}
