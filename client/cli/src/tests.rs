//! The command line as people type it.

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn the_whole_tree_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn what_the_manual_says_is_understood() {
    for line in [
        "store up",
        "store up --dir d --daemons 5 --ports auto --processes --restart",
        "store up --base-port 20000",
        "store status",
        "store status --watch",
        "store status --watch 5s --json",
        "store --json status",
        "store health",
        "store health detail",
        "store df --format plain",
        "store osd tree",
        "store osd list",
        "store osd ls --json",
        "store osd df",
        "store osd out 1 osd.2",
        "store osd in 1",
        "store osd down 1",
        "store osd clear-damage 1 2",
        "store osd reweight 1 0.5",
        "store rebalance plan",
        "store rebalance plan --add 2 --weight 1.8 --host h3 --json",
        "store rebalance plan --drain osd.3 --rm 4 --reweight 1=0.5 --crush-reweight osd.2=3.6",
        "store rebalance status",
        "store balancer status",
        "store balancer off",
        "store osd rm 1 --yes-i-really-mean-it",
        "store osd set noout",
        "store pool create p --size 2 --min-size 1 --pg-num 8",
        "store pool create p --type replicated --replica-count 3",
        "store pool create e --type erasure --ec-data-chunks 4 --ec-coding-chunks 2",
        "store pool create e --profile wide",
        "store erasure-profile set wide k=8 m=3 technique=cauchy failure-domain=rack --force",
        "store erasure-profile get wide",
        "store erasure-profile ls",
        "store erasure-profile rm wide",
        "store s3 placement set ec --data-pool e --default",
        "store s3 placement default default-placement",
        "store s3 placement ls",
        "store object bucket list --owner u",
        "store object bucket ls",
        "store object quota set u 10GiB --objects 5 --bucket b",
        "store object quota get u",
        "store object quota disable u --bucket b",
        "store object quota enable u",
        "store object quota unset u",
        "store object qos set u --read 100M --write 50M --ops 20 --bucket b",
        "store object qos get u",
        "store object qos unset u",
        "store object lifecycle ls",
        "store s3 placement rm ec",
        "store kms key create",
        "store kms key create testkey-1 --description d --json",
        "store kms key ls",
        "store kms key list --json",
        "store kms key show k",
        "store kms key enable k",
        "store kms key disable k",
        "store kms key rotate k",
        "store kms key delete k --days 7 --yes-i-really-mean-it",
        "store kms key undelete k",
        "store kms ls",
        "store kms rotate",
        "store kms rotate b --json",
        "store pool ls --detail",
        "store pool get p size",
        "store pool set p size 2",
        "store pool rm p --yes-i-really-mean-it",
        "store pg ls --pool p --state degraded",
        "store pg dump",
        "store pg query 1.0",
        "store pg scrub 1.0",
        "store pg deep-scrub 1.0",
        "store pg repair 1.0",
        "store scrub start --deep --pool p",
        "store scrub stop",
        "store scrub status --json",
        "store audit redundancy --json",
        "store object put p o -",
        "store object put p o file --striped",
        "store object get p o",
        "store object ls p --long --limit 5",
        "store object rm p a b c",
        "store object stat p o --namespace n",
        "store object xattr set p o k v",
        "store object omap ls p o",
        "store user create u --admin",
        "store user create u --account a --access none --swift",
        "store user key add u --access-key a --secret-key s",
        "store user key ls u --show",
        "store user key rm u a --yes-i-really-mean-it",
        "store config get",
        "store config get daemon.3 osd_max_backfills",
        "store config set osd_max_backfills 2",
        "store config set daemon osd_max_backfills 2",
        "store config rm daemon osd_max_backfills",
        "store config dump",
        "store wait health=ok",
        "store wait health=ok osds=3 --timeout 2m",
        "store version --cluster",
        "store completion zsh",
        "store health-check 127.0.0.1:9283",
        "store service ls",
        "store role start daemon 1 --dir d",
        "store role run daemon 1 --dir d --supervisor 5",
        "store role list --dir d",
        "store command osd pool get pool=p",
        "store --monitors a:1,b:2 --timeout 5s osd tree",
    ] {
        if let Err(error) = parse(line) {
            panic!("{line}: {error}");
        }
    }
}

#[test]
fn nonsense_is_wrong_usage() {
    for line in [
        "store",
        "store dwon",
        "store up --daemons 0",
        "store up --daemons 65",
        "store up --restart",
        "store osd out",
        "store osd reweight 1 heavy",
        "store object rm p",
        "store user create u --access-key only-half",
        "store user create u --access none",
        "store user create u --account a --admin",
        "store config set alone",
        "store rebalance plan --host h1",
        "store wait",
        "store wait health=splendid",
        "store completion perl",
        "store role start king 1",
        "store status --timeout soon",
    ] {
        let error = parse(line).err().unwrap_or_else(|| panic!("{line} was understood"));
        assert_eq!(error.exit_code(), 2, "{line}");
    }
}

#[test]
fn programs_get_wrong_usage_as_one_sentence() {
    let said = |line: &str| sentence(&parse(line).expect_err("wrong"));
    assert!(said("store --json dwon").starts_with("unrecognized subcommand 'dwon'"));
    let lacking = said("store --json object put p");
    assert!(lacking.contains("<OBJECT> <FILE>") && !lacking.contains("Usage"), "{lacking}");
    let words = |line: &str| {
        asks_for_json(line.split(' ').map(ToString::to_string).collect::<Vec<_>>().into_iter())
    };
    assert!(words("store osd --json") && words("store --format json x"));
    assert!(words("store --format=json") && !words("store osd tree json"));
}

/// A change of the command's face is a change of this file.
#[test]
fn the_help_is_this() {
    let mut help = String::new();
    for (path, command) in walk(Cli::command(), "store") {
        let args: Vec<String> = command
            .get_arguments()
            .filter(|arg| !arg.is_global_set() && !arg.is_hide_set())
            .filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()))
            .map(|arg| match arg.get_long() {
                Some(long) => format!("--{long}"),
                None => arg.get_id().to_string().to_uppercase(),
            })
            .collect();
        help.push_str(&format!(
            "{path}: {} [{}]\n",
            command.get_about().cloned().unwrap_or_default(),
            args.join(" ")
        ));
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/help.txt");
    let known = std::fs::read_to_string(path).unwrap_or_default();
    if known != help && std::env::var_os("STORE_UPDATE_SNAPSHOTS").is_some() {
        store_shell::files::write_durable(path.as_ref(), help.as_bytes(), 0o644).expect("written");
        return;
    }
    assert_eq!(known, help, "run the test with STORE_UPDATE_SNAPSHOTS=1 if this is meant");
}

fn walk(command: clap::Command, path: &str) -> Vec<(String, clap::Command)> {
    let mut all = Vec::new();
    for below in command.get_subcommands().filter(|below| below.get_name() != "help") {
        let path = format!("{path} {}", below.get_name());
        all.extend(walk(below.clone(), &path));
    }
    // One whose verb may be left out is a command too.
    if all.is_empty() || !command.is_subcommand_required_set() {
        all.insert(0, (path.to_string(), command));
    }
    all
}
