//! `probe`: is a service ready? The health check of containers, which have no curl.

use crate::exit::Failure;
use crate::output::Output;
use std::net::SocketAddr;
use store_shell::telemetry;

#[derive(clap::Args, Debug)]
pub(crate) struct ProbeArgs {
    /// IP:PORT of a service's health endpoint
    #[arg(default_value_t = SocketAddr::from(([127, 0, 0, 1], telemetry::PORT)))]
    address: SocketAddr,
}

pub(crate) async fn run(args: &ProbeArgs, output: &Output) -> Result<(), Failure> {
    telemetry::probe(args.address).await.map_err(Failure::failed)?;
    output.done("ready");
    Ok(())
}
