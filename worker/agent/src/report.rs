//! `--check`: what was found on this machine.

use agent::Config;
use serde_json::json;

pub(crate) fn print(config: &Config, as_json: bool) -> anyhow::Result<()> {
    let real = &config.trainers.real;
    let slots: Vec<String> =
        config.slots.iter().map(|slot| format!("{} with {} threads", slot.device, slot.threads)).collect();
    if as_json {
        let slots: Vec<_> =
            config.slots.iter().map(|slot| json!({"device": slot.device, "threads": slot.threads})).collect();
        let found = json!({
            "host": config.host,
            "slots": slots,
            "trainer": real.as_ref().ok().map(|real| real.executable.display().to_string()),
            "libtorch": real.as_ref().ok().map(|real| real.libtorch.library_folder.display().to_string()),
            "libtorch_version": real.as_ref().ok().and_then(|real| real.libtorch.version.clone()),
            "libtorch_found_by": real.as_ref().ok().map(|real| real.libtorch.found_by.clone()),
            "cuda": real.as_ref().is_ok_and(|real| real.libtorch.cuda),
            "trainer_problem": real.as_ref().err(),
            "scripted_trainer": config.trainers.scripted.as_ref().ok().map(|path| path.display().to_string()),
            "data_folder": config.data.folder.as_ref().map(|path| path.display().to_string()),
            "data": config.data.names,
        });
        println!("{}", serde_json::to_string_pretty(&found)?);
        return Ok(());
    }
    println!("host              {}", config.host);
    for (number, slot) in slots.iter().enumerate() {
        println!("slot {number:<13}{slot}");
    }
    match real {
        Ok(real) => {
            println!("trainer           {}", real.executable.display());
            println!(
                "libtorch          {} in {} (by {}; {})",
                real.libtorch.version.as_deref().unwrap_or("of unknown version"),
                real.libtorch.library_folder.display(),
                real.libtorch.found_by,
                if real.libtorch.cuda { "with CUDA" } else { "CPU only" }
            );
        }
        Err(problem) => println!("trainer           none: {problem}"),
    }
    match &config.trainers.scripted {
        Ok(path) => println!("scripted trainer  {}", path.display()),
        Err(problem) => println!("scripted trainer  none: {problem}"),
    }
    match &config.data.folder {
        Some(folder) => println!("data folder       {}", folder.display()),
        None => println!("data folder       none"),
    }
    for (name, path) in &config.data.names {
        println!("data              {name} = {}", path.display());
    }
    Ok(())
}
