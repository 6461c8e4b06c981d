use super::*;

const SMALL: &str = "mobilenet-v2";

fn cache() -> (tempfile::TempDir, ModelCache) {
    let folder = tempfile::tempdir().expect("a folder");
    let cache = ModelCache::open(&folder.path().join("models")).expect("a cache");
    (folder, cache)
}

/// A valid ONNX file that is not in the cache.
fn onnx_file(folder: &tempfile::TempDir) -> PathBuf {
    let path = folder.path().join("mine.onnx");
    crate::zoo::build(SMALL, Precision::Fp32, &path).expect("a model");
    path
}

/// Changes one byte in the middle, at another modification time.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).expect("the file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).expect("written");
    let file = File::options().write(true).open(path).expect("the file");
    file.set_modified(SystemTime::UNIX_EPOCH).expect("a new time");
}

#[test]
fn zoo_model_is_built_once_and_found_again() {
    let (_folder, cache) = cache();
    let built = cache.obtain(SMALL, Precision::Fp32).expect("a model");
    let time = fs::metadata(&built.path).expect("the file").modified().expect("a time");
    assert_eq!(cache.obtain(SMALL, Precision::Fp32).expect("a model"), built);
    assert_eq!(cache.locate(&built.model, Precision::Fp32).expect("a model"), built);
    // Another process would see it without what this one remembers.
    let other = ModelCache::open(&cache.directory).expect("a cache");
    assert_eq!(other.locate(&built.model, Precision::Fp32).expect("a model"), built);
    assert_eq!(fs::metadata(&built.path).expect("the file").modified().expect("a time"), time, "built again");
    assert_eq!(cache.list().expect("models"), [built]);
}

#[test]
fn damaged_or_missing_zoo_model_is_built_again() {
    let (_folder, cache) = cache();
    let built = cache.obtain(SMALL, Precision::Fp32).expect("a model");
    damage(&built.path);
    assert_eq!(cache.locate(&built.model, Precision::Fp32).expect("rebuilt"), built);
    assert!(matches!(cache.find(&built.model, built.precision), Ok(Found::Intact(_))));
    fs::remove_file(&built.path).expect("removed");
    assert_eq!(cache.locate(&built.model, Precision::Fp32).expect("rebuilt"), built);
    assert!(built.path.exists());
}

#[test]
fn another_builder_version_builds_anew() {
    let (_folder, cache) = cache();
    let built = cache.obtain(SMALL, Precision::Fp32).expect("a model");
    let sha256 = ContentHash([7; 32]);
    cache.write_record(SMALL, Record { sha256, owner: Owner::Zoo(BUILDER_VERSION + 1) }).expect("written");
    assert_eq!(cache.obtain(SMALL, Precision::Fp32).expect("a model"), built);
    assert_eq!(cache.record(SMALL).expect("a record").expect("a record").sha256, built.model.sha256);
}

#[test]
fn zoo_model_of_another_content_is_missing() {
    let (_folder, cache) = cache();
    let model = ModelRef { name: SMALL.to_owned(), sha256: ContentHash([1; 32]) };
    let error = cache.locate(&model, Precision::Fp32).expect_err("no such content");
    assert!(matches!(&error, GraphError::ModelMissing { name, .. } if name == SMALL), "{error:?}");
}

#[test]
fn two_at_once_build_one_file() {
    let (_folder, cache) = cache();
    let obtain =
        || ModelCache::open(&cache.directory).and_then(|cache| cache.obtain(SMALL, Precision::Fp32)).expect("a model");
    let built = std::thread::scope(|scope| {
        let threads = [scope.spawn(obtain), scope.spawn(obtain)];
        threads.map(|thread| thread.join().expect("no panic"))
    });
    assert_eq!(built[0], built[1]);
    let files = fs::read_dir(&cache.directory).expect("the folder").count();
    assert_eq!(files, 3, "one model, the lock and the names; no temporary file is left");
}

#[test]
fn registered_model_is_found_by_name_and_by_content() {
    let (folder, cache) = cache();
    let file = onnx_file(&folder);
    let registered = cache.register("team/mine-v1.0", &file).expect("registered");
    fs::remove_file(file).expect("the cache has its own copy");
    assert_eq!(cache.obtain("team/mine-v1.0", Precision::Fp32).expect("a model"), registered);
    assert_eq!(cache.locate(&registered.model, Precision::Fp32).expect("a model"), registered);
    assert_eq!(cache.list().expect("models"), [registered]);
}

#[test]
fn damaged_or_missing_registered_model_is_an_error() {
    let (folder, cache) = cache();
    let registered = cache.register("mine", &onnx_file(&folder)).expect("registered");
    damage(&registered.path);
    let error = cache.locate(&registered.model, Precision::Fp32).expect_err("damaged");
    assert!(matches!(&error, GraphError::ModelCorrupt { expected, .. } if *expected == registered.model.sha256));
    fs::remove_file(&registered.path).expect("removed");
    let error = cache.locate(&registered.model, Precision::Fp32).expect_err("missing");
    assert!(matches!(&error, GraphError::ModelMissing { nearest, .. } if nearest == &["mine"]), "{error:?}");
    assert!(matches!(cache.obtain("mine", Precision::Fp32), Err(GraphError::ModelMissing { .. })));
    assert_eq!(cache.list().expect("models"), []);
    cache.register("mine", &onnx_file(&folder)).expect("registering again heals");
    assert_eq!(cache.locate(&registered.model, Precision::Fp32).expect("a model"), registered);
}

#[test]
fn names_that_cannot_be_are_refused() {
    let (folder, cache) = cache();
    let file = onnx_file(&folder);
    for name in ["", "../up", "/root", "a//b", "a/../b", ".hidden", "a b", "ä", "a%2Fb", &"x".repeat(201)] {
        assert!(matches!(cache.register(name, &file), Err(GraphError::BadName { .. })), "{name:?}");
        assert!(matches!(cache.obtain(name, Precision::Fp32), Err(GraphError::BadName { .. })), "{name:?}");
    }
    assert!(matches!(cache.register("gpt2", &file), Err(GraphError::ZooName { .. })));
    assert_eq!(cache.list().expect("models"), []);
}

#[test]
fn only_onnx_is_registered() {
    let (folder, cache) = cache();
    let path = folder.path().join("notes.txt");
    fs::write(&path, "not a model").expect("written");
    assert!(matches!(cache.register("notes", &path), Err(GraphError::NotOnnx { .. })));
    let error = cache.obtain("notes", Precision::Fp32).expect_err("nothing was kept");
    assert!(matches!(error, GraphError::UnknownModel { .. }));
}

#[test]
fn model_with_weights_in_other_files_is_not_registered() {
    use crate::proto::{GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto};
    use prost::Message;
    let (folder, cache) = cache();
    let outside = TensorProto {
        data_type: 1,
        name: "w".to_owned(),
        data_location: TensorProto::EXTERNAL,
        ..TensorProto::default()
    };
    let graph = GraphProto {
        node: vec![NodeProto { op_type: "Identity".to_owned(), ..NodeProto::default() }],
        output: vec![ValueInfoProto::default()],
        initializer: vec![outside],
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { domain: String::new(), version: 17 }];
    let model = ModelProto { graph: Some(graph), opset_import, ..ModelProto::default() };
    let path = folder.path().join("split.onnx");
    fs::write(&path, model.encode_to_vec()).expect("written");
    let error = cache.register("split", &path).expect_err("half a model");
    assert!(matches!(&error, GraphError::ExternalWeights { tensor, .. } if tensor == "w"), "{error:?}");
}

#[test]
fn unknown_names_come_with_their_neighbours() {
    let (_folder, cache) = cache();
    let check = |name: &str, expected: &str| {
        assert_eq!(cache.obtain(name, Precision::Fp32).expect_err("unknown").to_string(), expected);
    };
    check(
        "bert-base",
        "no model is named `bert-base`; near it are `bert-base-uncased`, `distilbert-base`, `bart-base`",
    );
    check("gtp2", "no model is named `gtp2`; near it are `gpt2`");
    check("llama-3-70b-instruct", "no model is named `llama-3-70b-instruct`");
}

#[test]
fn damaged_record_is_an_error_and_not_a_guess() {
    let (_folder, cache) = cache();
    fs::write(cache.directory.join("names/mine"), "12 registered").expect("written");
    assert!(matches!(cache.obtain("mine", Precision::Fp32), Err(GraphError::BadRecord { .. })));
}
