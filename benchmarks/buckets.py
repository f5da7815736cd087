"""Rows that move files into a bucket and out of it: OpenStack Swift's S3, beside rclone and s5cmd."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.field import FILES_AT_ONCE, OURS_AT_ONCE, Field, run
from benchmarks.moving import Amount, alternate, size_text
from benchmarks.results import OURS, S5CMD, Goal, Result
from benchmarks.scale import Scale
from tests.servers.s3 import BUCKET, Swift


class BucketField(Field):
    """A field with a bucket, near and at the end of the long path."""

    def _start(self) -> None:
        self.swift = Swift(self._made("swift"))
        self._run(self.swift)
        self.far_endpoint = f"http://127.0.0.1:{self._delayed(self.swift.port)}"
        super()._start()
        with self.rclone_config.open("a") as config:
            for name, endpoint in self._endpoints.items():
                config.write(
                    f"[{name}]\ntype = s3\nprovider = Other\nendpoint = {endpoint}\nforce_path_style = true\n"
                    f"access_key_id = {self.swift.access_key_id}\nsecret_access_key = {self.swift.secret_key}\n"
                )

    @property
    def _endpoints(self) -> Mapping[str, str]:
        return {"bucket": self.swift.endpoint, "far-bucket": self.far_endpoint}

    def _tables(self) -> str:
        tables = super()._tables()
        for name, endpoint in self._endpoints.items():
            options: Mapping[str, Any] = {**self.swift.options, "endpoint": endpoint}
            lines = "".join(f'{key} = "{value}"\n' for key, value in options.items())
            tables += f'[destinations.{name}]\nurl = "s3://{BUCKET}"\nmax_active = {OURS_AT_ONCE}\n{lines}'
        return tables

    def clear(self) -> None:
        """Remove what was moved into the bucket too."""
        boto = self.swift.boto
        for page in boto.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="moved"):
            for each in page.get("Contents", ()):
                boto.delete_object(Bucket=BUCKET, Key=each["Key"])
        super().clear()

    def object(self, key: str, file: Path, *, in_parts: bool) -> None:
        """Put a file into the bucket: in parts as s5cmd does, or whole, so that its ETag is an MD5."""
        if in_parts:
            self.s5cmd("bucket", "cp", str(file), f"s3://{BUCKET}/{key}")
        else:
            with file.open("rb") as body:
                self.swift.boto.put_object(Bucket=BUCKET, Key=key, Body=body)

    def s5cmd(self, name: str, *arguments: str, stdin: str = "") -> None:
        """Run s5cmd; ``stdin`` is a command whose output it reads."""
        command = [S5CMD, "--log", "error", "--endpoint-url", self._endpoints[name], *arguments]
        login = [f"AWS_ACCESS_KEY_ID={self.swift.access_key_id}", f"AWS_SECRET_ACCESS_KEY={self.swift.secret_key}"]
        command = ["env", *login, "AWS_REGION=us-east-1", *command]
        if stdin:
            run("sh", "-c", f"{stdin} | {' '.join(command)}")
        else:
            run(*command)


def put(scale: Scale, *, far: bool) -> Result:
    """HTTP to the bucket."""
    with BucketField() as field:
        size, bucket = scale.bytes(2**30), "far-bucket" if far else "bucket"
        field.file(field.web_root / "source.bin", size)
        url, key = f"{field.nginx.url}/source.bin", "moved.bin"
        ways = {
            OURS: lambda: field.move({"source": url, "destination": bucket, "path": key}),
            "rclone copyurl": lambda: field.rclone("copyurl", url, f"{bucket}:{BUCKET}/{key}"),
            "curl into s5cmd": lambda: field.s5cmd(bucket, "pipe", f"s3://{BUCKET}/{key}", stdin=f"curl -sSf {url}"),
        }
        values = alternate(field, ways, Amount(size / 1e6, "MB/s"), scale.rounds)
    least = 1.5 if far else 1.0
    goals = [Goal("rclone copyurl", least), *([] if far else [Goal("curl into s5cmd", 1.0)])]
    title = f"HTTP → S3, {size_text(size)}{', 50 ms RTT' if far else ''}"
    return Result("s3-put-far" if far else "s3-put", title, "MB/s", values, goals)


def get(scale: Scale, *, far: bool, in_parts: bool = False) -> Result:
    """The bucket to the local disk; the object was stored ``in_parts``, or whole."""
    with BucketField() as field:
        size, bucket = scale.bytes(2**30), "far-bucket" if far else "bucket"
        field.object("source.bin", field.file(field.web_root / "source.bin", size), in_parts=in_parts)
        target = str(field.here / "moved.bin")

        def rclone() -> None:
            field.rclone("copyto", f"{bucket}:{BUCKET}/source.bin", target)
            field.flush()

        def s5cmd() -> None:
            field.s5cmd(bucket, "cp", f"s3://{BUCKET}/source.bin", target)
            field.flush()

        source = {"destination": bucket, "path": "source.bin"}
        ways = {
            OURS: lambda: field.move({"source": source, "destination": "here", "path": "moved.bin"}),
            "rclone": rclone,
            "s5cmd cp": s5cmd,
        }
        values = alternate(field, ways, Amount(size / 1e6, "MB/s"), scale.rounds)
    goals = [Goal("rclone", 1.5 if far else 1.0), *([] if far else [Goal("s5cmd cp", 1.0)])]
    title = f"S3{', stored in parts' * in_parts} → local, {size_text(size)}{', 50 ms RTT' * far}"
    return Result(f"s3-get{'-far' * far}{'-parts' * in_parts}", title, "MB/s", values, goals)


def small(scale: Scale) -> Result:
    """Many small files in one job, HTTP to the bucket."""
    with BucketField(f"max_active = {OURS_AT_ONCE}\n[limits]\nper_source_host = {OURS_AT_ONCE}\n") as field:
        names = field.small_files(scale.count(2000))
        request = {
            "files": [
                {
                    "source": f"{field.nginx.url}/{name}",
                    "destination": "bucket",
                    "path": f"moved/{os.path.basename(name)}",
                }
                for name in names
            ]
        }
        many = str(FILES_AT_ONCE)
        ways = {
            OURS: lambda: field.move(request),
            "rclone --transfers 32": lambda: field.rclone(
                "copy", "--transfers", many, "web:small", f"bucket:{BUCKET}/moved"
            ),
        }
        values = alternate(field, ways, Amount(len(names), "files/s"), scale.rounds)
    title = f"{len(names):,} files of 10 kB in one job, HTTP → S3"
    return Result("small-s3", title, "files/s", values, [Goal("rclone --transfers 32", 0.7)])
