"""Archives that no `export` writes are refused in one line, and leave nothing behind."""

import hashlib
import io
import json
import re
import stat
import struct
import zipfile

import pytest

from benchmarks.records import imports_dir
from benchmarks.sharing import archive as limits
from benchmarks.sharing.importing import import_archive
from pretrain.common.errors import InputError
from tests.benchmarks.sharing.test_round_trip import export_main, keep


@pytest.fixture
def members(tmp_path, monkeypatch):
    """Names and bytes of a good archive of one run: manifest, record, predictions."""
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "there"))
    keep("mine", "a")
    export_main([str(tmp_path / "good.zip")])
    monkeypatch.setenv("RESULTS_DIR", str(tmp_path / "here"))
    with zipfile.ZipFile(tmp_path / "good.zip") as packed:
        return {name: packed.read(name) for name in packed.namelist()}


def names(members):
    (record,) = (name for name in members if limits.RECORD.fullmatch(name))
    return record, record.removesuffix(".json") + "/predictions.npz"


def listed(members, **more):
    """``members`` with a manifest that lists them all as they are."""
    manifest = json.loads(members["manifest.json"])
    files = {name: data for name, data in members.items() if name != "manifest.json"}
    manifest["files"] = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)} for name, data in files.items()
    }
    return members | {"manifest.json": json.dumps(manifest | more).encode()}


def packed(path, members, change=None, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = method
            if change:
                change(entry)
            archive.writestr(entry, data)
    return path


def refused(path, said):
    with pytest.raises(InputError, match=said) as caught:
        import_archive(path, "lab")
    assert "\n" not in str(caught.value) and str(caught.value).startswith(f"{path} is not imported: ")
    assert not imports_dir().exists() or not list(imports_dir().iterdir())


def test_the_helper_packs_what_is_imported(members, tmp_path):
    assert import_archive(packed(tmp_path / "x.zip", listed(members)), "lab") == "imported as lab: 1 runs of mine"


@pytest.mark.parametrize(
    "name",
    [
        "../../outside.json",
        "/etc/passwd",
        "runs/../../../x.json",
        "runs/0123456789ab/../../x.json",
        "runs/0123456789ab/..",
        "runs\\0123456789ab\\x.json",
        "C:/x.json",
        "runs/0123456789ab/x/y/z",
        "runs/0123456789ab/.hidden.json",
        "runs/0123456789AB/x.json",
        "runs/0123456789ab/x\n.json",
        "runs/0123456789ab/x\x00.json",
        "runs/0123456789ab/",
        "runs/0123456789ab/ｘ.json",
    ],
)
def test_names_that_lead_elsewhere(members, tmp_path, name):
    refused(packed(tmp_path / "x.zip", listed(members | {name: b"{}"})), "which is no file of a run")
    assert not (tmp_path / "outside.json").exists()


def test_links_and_special_files(members, tmp_path):
    for kind in (stat.S_IFLNK, stat.S_IFIFO, stat.S_IFDIR):
        change = lambda entry: setattr(entry, "external_attr", (kind | 0o777) << 16)  # noqa: B023, E731
        refused(packed(tmp_path / "x.zip", listed(members), change), "is a link or another special file")


def test_members_beside_or_without_the_manifest(members, tmp_path):
    record, predictions = names(members)
    more = members | {record.replace(".json", "-2.json"): members[record]}
    refused(packed(tmp_path / "x.zip", more), r"-2\.json is not in its manifest")
    less = {name: data for name, data in members.items() if name != predictions}
    refused(packed(tmp_path / "x.zip", less), r"predictions\.npz is in its manifest alone")
    del less["manifest.json"]
    refused(packed(tmp_path / "x.zip", less), r"it has no manifest\.json")
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "x.zip", "w") as twice:
        for name, data in [*members.items(), (record, b"{}")]:
            twice.writestr(name, data)
    refused(tmp_path / "x.zip", f"it holds {record} twice")


def test_changed_contents(members, tmp_path):
    record, predictions = names(members)
    for name in (record, predictions):
        data = members[name][:-1] + bytes([members[name][-1] ^ 1])
        refused(packed(tmp_path / "x.zip", members | {name: data}), "its sha256 is not that of the manifest")
        refused(packed(tmp_path / "x.zip", members | {name: data[:-1]}), "is not the file that was packed")
        refused(packed(tmp_path / "x.zip", members | {name: data + b" "}), "is longer than its manifest says")
    data = bytearray(packed(tmp_path / "x.zip", members, method=zipfile.ZIP_STORED).read_bytes())
    data[data.index(b'"label"') + 1] ^= 1  # and not its CRC
    (tmp_path / "x.zip").write_bytes(data)
    refused(tmp_path / "x.zip", "damaged, or no zip|its manifest.json is not one")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "other"}, "format 'other', expected"),
        ({"version": 2}, "version 2, expected 1"),
        ({"labels": []}, "labels is"),
        ({"more": 1}, "unknown field 'more'"),
        ({"files": {"x": {"sha256": "0", "size": 1}}}, r"files\.x has no sha256 and size"),
        ({"files": {"x": {"sha256": "0" * 64, "size": -1}}}, r"files\.x has no sha256 and size"),
    ],
)
def test_manifests_of_other_forms(members, tmp_path, change, said):
    refused(packed(tmp_path / "x.zip", listed(members, **change)), said)


def test_manifests_that_are_no_json(members, tmp_path):
    for text in (b"", b"\xff", b"[1]", b"[" * 100_000, b'{"a": NaN}'):
        refused(packed(tmp_path / "x.zip", members | {"manifest.json": text}), "is not one of this version")


def test_records_that_tables_would_not_take(members, tmp_path):
    record, predictions = names(members)
    values = json.loads(members[record])

    def said(why, **changes):
        data = json.dumps(values | changes).encode()
        refused(packed(tmp_path / "x.zip", listed(members | {record: data})), why)

    said("is not a run record .*schema_version 2, expected 3", schema_version=2)
    said("is not a run record .*metrics.top1 is 101, not a percentage", metrics={"top1": 101})
    said("is not a run record .*imported is set", imported="us")
    said("is a record of run .*, not of its folder's", spec=values["spec"] | {"seed": 5})
    said("is of a run that failed", status="failed", error="x")
    said("belongs to no record of it", files=["log.txt"])
    refused(packed(tmp_path / "x.zip", listed(members | {record: b"[" * 100_000})), "nested too deep")
    strange = record.replace(".json", "/head.npz")
    refused(packed(tmp_path / "x.zip", listed(members | {strange: b"PK"})), "damaged, or no zip|belongs to no record")
    less = {name: data for name, data in members.items() if name != predictions}
    refused(packed(tmp_path / "x.zip", listed(less)), r"it lacks predictions\.npz of runs/")
    refused(packed(tmp_path / "x.zip", listed({"manifest.json": members["manifest.json"]})), "it holds no record")


def test_bombs(members, tmp_path, monkeypatch):
    record, predictions = names(members)
    big = members | {record: b" " * (5 * 2**20) + members[record]}
    refused(packed(tmp_path / "x.zip", listed(big)), "bytes, more than 4,194,304")
    short = packed(tmp_path / "x.zip", members | {record: b" " * (5 * 2**20)})  # as the manifest does not say
    refused(short, "is longer than its manifest says")
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as arrays:
        arrays.writestr("target.npy", bytes(2**20))
    monkeypatch.setattr(limits, "MOST_FILE", 2**19)
    refused(
        packed(tmp_path / "x.zip", listed(members | {predictions: inner.getvalue()})), "predictions.npz: it unpacks"
    )
    monkeypatch.setattr(limits, "MOST_BYTES", 1000)
    refused(packed(tmp_path / "x.zip", listed(members)), "it unpacks to .* GB, more than")
    monkeypatch.setattr(limits, "MOST_MEMBERS", 2)
    refused(packed(tmp_path / "x.zip", listed(members)), "it has 3 members, more than 2")


def test_members_that_share_their_bytes(members, tmp_path):
    """A second entry of the list of members that points at the first one's data."""
    record, _ = names(members)
    twin = record.replace(".json", "x.json")
    data = packed(tmp_path / "x.zip", listed(members | {twin: members[record]})).read_bytes()
    entries = [match.start() for match in re.finditer(re.escape(b"PK\x01\x02"), data)]
    at = {data[one + 46 : one + 46 + struct.unpack_from("<H", data, one + 28)[0]]: one for one in entries}
    first, second = at[record.encode()], at[twin.encode()]
    changed = bytearray(data)
    changed[second + 42 : second + 46] = changed[first + 42 : first + 46]
    (tmp_path / "x.zip").write_bytes(changed)
    refused(tmp_path / "x.zip", "damaged, or no zip")
    claims = bytearray(data)
    struct.pack_into("<I", claims, first + 20, 2**30)  # bytes packed
    (tmp_path / "x.zip").write_bytes(claims)
    refused(tmp_path / "x.zip", "its members overlap")
    claims = bytearray(data)
    struct.pack_into("<I", claims, first + 24, 2**30)  # bytes unpacked
    (tmp_path / "x.zip").write_bytes(claims)
    refused(tmp_path / "x.zip", "its members overlap")


def test_other_methods_encryption_and_other_files(members, tmp_path):
    refused(packed(tmp_path / "x.zip", listed(members), method=zipfile.ZIP_LZMA), "another method than deflate")
    data = bytearray(packed(tmp_path / "x.zip", listed(members)).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "x.zip").write_bytes(data)
    refused(tmp_path / "x.zip", "is encrypted")
    whole = packed(tmp_path / "x.zip", listed(members)).read_bytes()
    for content in (b"", b"not a zip", whole[:100], whole[: len(whole) // 2], whole[:-30]):
        (tmp_path / "x.zip").write_bytes(content)
        refused(tmp_path / "x.zip", "it is damaged, or no zip")
    with pytest.raises(InputError, match="is not a file"):
        import_archive(tmp_path, "lab")
