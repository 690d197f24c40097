//! Generates the control plane's tonic services. The messages come from `store_base::wire`, so machines and
//! shells use the same types; protox reads the .proto files, so no protoc is needed.

/// The data path's service is not generated: it is written at the HTTP body level (`src/link`).
const HAND_WRITTEN: &str = "link.proto";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = "../proto";
    println!("cargo:rerun-if-changed={folder}");
    let mut protos = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let named = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if named.ends_with(".proto") && named != HAND_WRITTEN {
            protos.push(path);
        }
    }
    protos.sort(); // the folder's own order is chance
    tonic_prost_build::configure()
        .extern_path(".store", "::store_base::wire")
        .compile_fds(protox::compile(protos, [folder])?)?;
    Ok(())
}
