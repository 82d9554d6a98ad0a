//! `man`: the manual page, made from the definition of the command line: whatever `--help`
//! says of a command is here, and what it has no room for: exit codes, variables, files.

use std::process::ExitCode;

use clap::{Arg, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

/// What the program is told by variables that are no options.
const VARIABLES: [(&str, &str); 6] = [
    (
        "AZURE_TENANT_ID, AZURE_CLIENT_ID, AZURE_FEDERATED_TOKEN_FILE, AZURE_AUTHORITY_HOST",
        "stand in for keys that a provider of `type: entra` leaves out, as Azure workload identity sets them",
    ),
    (
        "IDENTITY_ENDPOINT, IDENTITY_HEADER, IMDS_ENDPOINT, AZURE_POD_IDENTITY_AUTHORITY_HOST",
        "say where managed identities come from",
    ),
    ("NAME", "any variable that the routes file names as ${NAME}"),
    ("NO_COLOR", "where it is set, help is without colours"),
    (
        "LISTEN_FDS, LISTEN_PID, NOTIFY_SOCKET",
        "the protocols of systemd: sockets that are handed over, and who is told that the gateway is ready",
    ),
    (
        "OBO_GATEWAY_COMMIT",
        "when the program is built without git: the commit that --version names",
    ),
];

const EXIT_CODES: [(&str, &str); 3] = [
    ("0", "Done; after SIGTERM or SIGINT, drained."),
    (
        "1",
        "It failed: an invalid routes file, a port in use, a check that found a problem, a request that would be refused, a second signal while draining.",
    ),
    ("2", "Wrong usage of the command line."),
];

const FILES: [(&str, &str); 2] = [
    (
        "routes.yaml",
        "The routes file, unless --config says otherwise; paths in it are relative to it.",
    ),
    (
        "routes.schema.json",
        "What `obo-gateway schema` prints; editors find it by the line `# yaml-language-server: $schema=./routes.schema.json`.",
    ),
];

const SIGNALS: [(&str, &str); 2] = [
    ("SIGTERM, SIGINT", "Drain, then exit; a second one exits at once."),
    ("SIGHUP", "Read the routes file again; a bad one changes nothing."),
];

pub(super) fn main<C: CommandFactory>() -> ExitCode {
    match page(C::command()) {
        Ok(page) => {
            super::to_stdout(&page);
            ExitCode::SUCCESS
        }
        Err(error) => super::failure(&format!("the manual page can't be made: {error}")),
    }
}

fn page(mut command: Command) -> std::io::Result<String> {
    command.build();
    let version = command.get_version().unwrap_or_default().to_owned();
    let man = Man::new(command.clone())
        .title("OBO-GATEWAY")
        .section("1")
        // The day of the commit, where it is known; without an argument there the next ones would move.
        .date(
            version
                .rsplit_once(' ')
                .and_then(|(_, day)| day.strip_suffix(')'))
                .filter(|day| day.len() == 10)
                .unwrap_or(" "),
        )
        .source(format!("obo-gateway {version}"))
        .manual("User Commands");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut rest = Roff::new();
    rest.control("SH", ["COMMANDS"]);
    for sub in command.get_subcommands() {
        subcommand(&mut rest, "obo-gateway", &command, sub);
    }
    section(&mut rest, "EXIT STATUS", &EXIT_CODES);
    section(&mut rest, "SIGNALS", &SIGNALS);
    let options = command.get_arguments().filter_map(|argument| {
        let variable = argument.get_env()?.to_str()?.to_owned();
        Some((variable, format!("the same as --{}", argument.get_long()?)))
    });
    let options: Vec<_> = options.collect();
    let options: Vec<_> =
        options.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    section(&mut rest, "ENVIRONMENT", &options);
    entries(&mut rest, &VARIABLES);
    section(&mut rest, "FILES", &FILES);
    rest.to_writer(&mut page)?;
    Ok(ascii(&String::from_utf8_lossy(&page)))
}

/// Letters beyond ASCII as every roff knows them, whatever it takes its input to be.
fn ascii(page: &str) -> String {
    let letter = |letter: char| match u32::from(letter) {
        ..128 => letter.to_string(),
        code => format!("\\[u{code:04X}]"),
    };
    page.chars().map(letter).collect()
}

/// A command with its own arguments, and those below it; not with what it has from `above`, where
/// that is said.
fn subcommand(page: &mut Roff, name_above: &str, above: &Command, command: &Command) {
    let name = format!("{name_above} {}", command.get_name());
    let is_from_above = |argument: &Arg| {
        argument.is_global_set() && above.get_arguments().any(|it| it.get_id() == argument.get_id())
    };
    let arguments: Vec<_> = command
        .get_arguments()
        .filter(|it| !it.is_hide_set() && !is_from_above(it) && it.get_id() != "help")
        .collect();
    let usage = arguments.iter().map(|it| match (form(it), it.is_required_set()) {
        (form, true) => form,
        (form, false) => format!("[{form}]"),
    });
    let usage = usage.collect::<Vec<_>>().join(" ");
    page.control("SS", [format!("{name} {usage}").trim_end()]);
    let about = command.get_long_about().or(command.get_about());
    page.text([roman(about.map(ToString::to_string).unwrap_or_default())]);
    for argument in arguments {
        page.control("TP", []);
        page.text([bold(form(argument))]);
        let help = argument.get_long_help().or(argument.get_help());
        let mut help = help.map(ToString::to_string).unwrap_or_default();
        let defaults: Vec<_> =
            argument.get_default_values().iter().filter_map(|it| it.to_str()).collect();
        if !defaults.is_empty() && argument.get_action().takes_values() {
            help = format!("{help} [default: {}]", defaults.join(", "));
        }
        page.text([roman(help)]);
    }
    for below in command.get_subcommands().filter(|it| it.get_name() != "help") {
        subcommand(page, &name, command, below);
    }
}

/// `--format FORMAT`, or `SHELL` for an argument by place.
fn form(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    let values: Vec<_> = names.iter().map(|it| it.as_str().to_uppercase()).collect();
    let values =
        if argument.get_action().takes_values() { values.join(" ") } else { String::new() };
    let name = match (argument.get_short(), argument.get_long()) {
        (_, Some(long)) => format!("--{long}"),
        (Some(short), None) => format!("-{short}"),
        (None, None) => return values,
    };
    format!("{name} {values}").trim_end().to_owned()
}

fn section(page: &mut Roff, title: &str, list: &[(&str, &str)]) {
    page.control("SH", [title]);
    entries(page, list);
}

fn entries(page: &mut Roff, list: &[(&str, &str)]) {
    for (name, text) in list {
        page.control("TP", []);
        page.text([italic(*name)]);
        page.text([roman(*text)]);
    }
}
