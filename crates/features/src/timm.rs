//! The result files of timm (<https://github.com/huggingface/pytorch-image-models>, folder `results`), as they are.
//!
//! A file's columns say what was measured of which model, its name where and how:
//! `benchmark-infer-amp-nhwc-pt210-cu121-rtx3090.csv` is `PyTorch` 2.1.0 with CUDA on an RTX 3090, mixed precision,
//! channels last, and `-dynamo` behind the device means that the model was compiled.

use std::path::Path;

use messages::MeasuredRow;

use crate::{
    FeatureError, MeasuredTable,
    tables::{BadRow, Table},
};

const INFERENCE: &str = "infer_samples_per_sec";
const TRAINING: &str = "train_samples_per_sec";

/// The columns that such a file may have.
const COLUMNS: &[&str] = &[
    "model",
    "infer_img_size",
    "infer_batch_size",
    INFERENCE,
    "infer_step_time",
    "infer_gmacs",
    "infer_macts",
    "param_count",
];

/// What a file's name should look like.
const NAME_FORM: &str = "benchmark-infer-PRECISION-LAYOUT-ptVERSION-(cuVERSION|cpu)-DEVICE[-dynamo].csv";

/// Ports and training recipes that timm puts before a model's name; they change its weights, not its family.
const RECIPES: &[&str] = &["tf_", "gluon_", "ssl_", "swsl_", "legacy_", "ese_", "ig_", "tv_", "adv_"];

/// Whether a table has timm's columns.
pub(crate) fn is_timm(table: &Table) -> bool {
    table.has(INFERENCE) || table.has(TRAINING)
}

/// Reads such a table.
///
/// # Errors
///
/// As [`MeasuredTable::read_published`].
pub(crate) fn read(path: &Path, table: &Table) -> Result<MeasuredTable, FeatureError> {
    let unlabelled = |reason: &str| FeatureError::Unlabelled { path: path.to_owned(), reason: reason.to_owned() };
    if table.has(TRAINING) {
        return Err(unlabelled("it has times of training steps, for which a measurement table has no column"));
    }
    table.refuse_unknown(path, COLUMNS)?;
    let place = of_name(path).ok_or_else(|| unlabelled(&format!("its name is not of the form {NAME_FORM}")))?;
    let models = table.texts(path, "model")?;
    let [size, batch, throughput, latency, gmacs, activations, parameters] = [
        "infer_img_size",
        "infer_batch_size",
        INFERENCE,
        "infer_step_time",
        "infer_gmacs",
        "infer_macts",
        "param_count",
    ]
    .map(|name| table.numbers(path, name).map(|cells| (name, cells)));
    let columns = [size?, batch?, throughput?, latency?, gmacs?, activations?, parameters?];
    let mut read = MeasuredTable::default();
    for (index, model) in models.into_iter().enumerate() {
        let cells = columns.each_ref().map(|(name, cells)| cells[index].as_ref().map_err(|text| (*name, text)));
        match row(&place, model.unwrap_or_default(), cells) {
            Ok(row) => read.rows.push(row),
            Err(reason) => read.bad.push(BadRow { line: Table::line(index), reason }),
        }
    }
    Ok(read)
}

type Cell<'a> = Result<&'a Option<f64>, (&'static str, &'a String)>;

/// One row, or why it is none; the cells are in the order in which [`read`] takes them.
fn row(place: &MeasuredRow, model: String, cells: [Cell<'_>; 7]) -> Result<MeasuredRow, String> {
    let mut numbers = [None; 7];
    for (number, cell) in numbers.iter_mut().zip(cells) {
        *number = *cell.map_err(|(name, text)| format!("`{name}` is `{text}`, not a finite number"))?;
    }
    let [image_size, batch_size, throughput, latency, gmacs, activations, parameters] = numbers;
    let row = MeasuredRow {
        family: family(&model),
        model,
        batch_size: batch_size.unwrap_or_default(),
        image_size,
        // A file's own zero means that it rounded to two digits, or was not counted.
        gmacs: gmacs.filter(|gmacs| *gmacs > 0.0),
        activations_m: activations.filter(|activations| *activations > 0.0),
        params_m: parameters.filter(|parameters| *parameters > 0.0),
        latency_ms: latency,
        throughput_items_per_second: throughput,
        ..place.clone()
    };
    row.flaw().map_or(Ok(row), Err)
}

/// Everything but model and numbers, from a file's name.
fn of_name(path: &Path) -> Option<MeasuredRow> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".gz").unwrap_or(name).strip_suffix(".csv")?;
    let (words, compiler) = match stem.strip_suffix("-dynamo") {
        Some(words) => (words, "dynamo"),
        None => (stem, "eager"),
    };
    let mut words = words.strip_prefix("benchmark-infer-")?.splitn(5, '-');
    let mut next = || words.next().filter(|word| !word.is_empty());
    let (precision, layout, version, platform, device) = (next()?, next()?, next()?, next()?, next()?);
    let platform = match platform {
        "cpu" => "cpu",
        other if other.starts_with("cu") => "cuda",
        other if other.starts_with("rocm") => "rocm",
        _ => return None,
    };
    Some(MeasuredRow {
        device: device_name(device),
        platform: Some(platform.to_owned()),
        backend: Some("pytorch".to_owned()),
        backend_version: Some(version_number(version.strip_prefix("pt")?)?),
        compiler: Some(compiler.to_owned()),
        precision: Some(precision.to_owned()),
        layout: Some(layout.to_owned()),
        ..MeasuredRow::default()
    })
}

/// `240` is 2.4.0, `2101` is 2.10.1; versions before 2 are written without a patch: `113` is 1.13.
fn version_number(digits: &str) -> Option<String> {
    if digits.len() < 3 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (major, rest) = digits.split_at(1);
    if major == "1" {
        return Some(format!("{major}.{rest}"));
    }
    let (minor, patch) = rest.split_at(rest.len() - 1);
    Some(format!("{major}.{minor}.{patch}"))
}

/// The vendor's name where timm's word follows from it, else the word itself.
fn device_name(word: &str) -> String {
    let geforce = word.strip_prefix("rtx").unwrap_or(word);
    if geforce.len() == 4 && geforce.bytes().all(|byte| byte.is_ascii_digit()) {
        return format!("NVIDIA GeForce RTX {geforce}");
    }
    match word.split_once('_') {
        Some((line @ ("i3" | "i5" | "i7" | "i9"), number)) => {
            format!("Intel Core {line}-{}", number.to_ascii_uppercase())
        }
        _ => word.to_owned(),
    }
}

/// The letters that a model's name begins with.
fn family(model: &str) -> Option<String> {
    let name = RECIPES.iter().fold(model, |name, recipe| name.strip_prefix(recipe).unwrap_or(name));
    let end = name.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(name.len());
    Some(name[..end].to_owned()).filter(|family| !family.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "model,infer_img_size,infer_batch_size,infer_samples_per_sec,infer_step_time,infer_gmacs,\
                          infer_macts,param_count\n";

    fn read_named(name: &str, text: &str) -> Result<MeasuredTable, FeatureError> {
        let directory = tempfile::tempdir().expect("temporary directory");
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        MeasuredTable::read_published(&path)
    }

    #[test]
    fn a_file_is_read_as_it_is_published() {
        let text = format!("{HEADER}tf_mobilenetv3_small_100,224,1024.0,31002.71,33.019,0.06,1.42,2.54\n");
        let table = read_named("benchmark-infer-amp-nhwc-pt210-cu121-rtx3090.csv", &text).expect("read");
        let text = |text: &str| Some(text.to_owned());
        let expected = MeasuredRow {
            model: "tf_mobilenetv3_small_100".to_owned(),
            family: text("mobilenetv"),
            device: "NVIDIA GeForce RTX 3090".to_owned(),
            platform: text("cuda"),
            backend: text("pytorch"),
            backend_version: text("2.1.0"),
            compiler: text("eager"),
            precision: text("amp"),
            layout: text("nhwc"),
            batch_size: 1024.0,
            image_size: Some(224.0),
            params_m: Some(2.54),
            gmacs: Some(0.06),
            activations_m: Some(1.42),
            latency_ms: Some(33.019),
            throughput_items_per_second: Some(31002.71),
            ..MeasuredRow::default()
        };
        assert_eq!(table.rows, [expected]);
        assert_eq!(table.bad, []);
    }

    fn check_name(name: &str, expected: Option<[&str; 6]>) {
        let place = of_name(Path::new(name));
        let words = place.as_ref().map(|place| {
            [&place.platform, &place.backend_version, &place.compiler, &place.precision, &place.layout]
                .map(|word| word.as_deref().expect("known"))
        });
        let words = words.map(|[platform, version, compiler, precision, layout]| {
            [&place.as_ref().expect("a place").device, platform, version, compiler, precision, layout]
        });
        assert_eq!(words, expected, "{name}");
    }

    #[test]
    fn a_name_says_where_and_how() {
        check_name(
            "benchmark-infer-fp32-nchw-pt221-cpu-i9_10940x-dynamo.csv",
            Some(["Intel Core i9-10940X", "cpu", "2.2.1", "dynamo", "fp32", "nchw"]),
        );
        check_name(
            "benchmark-infer-amp-nchw-pt113-cu117-rtx3090.csv.gz",
            Some(["NVIDIA GeForce RTX 3090", "cuda", "1.13", "eager", "amp", "nchw"]),
        );
        check_name(
            "benchmark-infer-amp_bf16-nchw-pt2101-cu130-4090.csv",
            Some(["NVIDIA GeForce RTX 4090", "cuda", "2.10.1", "eager", "amp_bf16", "nchw"]),
        );
        check_name(
            "benchmark-infer-bf16-nhwc-pt291-rocm7-mi300x.csv",
            Some(["mi300x", "rocm", "2.9.1", "eager", "bf16", "nhwc"]),
        );
        check_name("benchmark-infer-amp-nchw-pt113-cu117.csv", None);
        check_name("benchmark-infer-amp-nchw-113-cu117-rtx3090.csv", None);
        check_name("results.csv", None);
    }

    #[test]
    fn a_bad_row_is_named_and_a_file_that_says_too_little_is_refused() {
        let name = "benchmark-infer-amp-nhwc-pt240-cu124-rtx4090.csv";
        let text =
            format!("{HEADER}a,224,8,NaN,1,1,1,1\nb,224,8,100,-10,1,1,1\nc,224,,100,10,1,1,1\nd,224,8,100,10,,,\n");
        let table = read_named(name, &text).expect("read");
        let bad: Vec<_> = table.bad.iter().map(|bad| (bad.line, bad.reason.as_str())).collect();
        assert_eq!(
            bad,
            [
                (2, "`infer_samples_per_sec` is `NaN`, not a finite number"),
                (3, "`latency_ms` is -10, not above 0"),
                (4, "`batch_size` is not a number of at least 1"),
            ]
        );
        assert_eq!(table.rows.iter().map(|row| row.gmacs).collect::<Vec<_>>(), [None]);
        let error = read_named("mine.csv", &text).expect_err("no place").to_string();
        assert!(error.contains("mine.csv") && error.contains("benchmark-infer-PRECISION"), "{error}");
        let training = "model,train_samples_per_sec,train_step_time,train_batch_size,train_img_size,param_count\n";
        let error = read_named(name, training).expect_err("training").to_string();
        assert!(error.contains("training"), "{error}");
    }

    #[test]
    fn a_family_is_what_a_name_begins_with() {
        let families = ["resnet50", "tf_efficientnetv2_b0", "vit_base_patch16_224", "legacy_seresnet18", "50x"];
        assert_eq!(
            families.map(|name| family(name).unwrap_or_default()),
            ["resnet", "efficientnetv", "vit", "seresnet", ""]
        );
    }
}
