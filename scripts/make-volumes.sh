#!/bin/sh
# Makes the phantoms of volumes/ again and lists their seeds and digests in volumes/README.md.
# Usage: scripts/make-volumes.sh   (from anywhere; builds the command first)
set -eu
cd "$(dirname "$0")/.."
cargo build --release --quiet
volseg=${VOLSEG:-target/release/volseg}
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT

# name, modality, seed
cases="ct-phantom ct 900004
xray-phantom xray 900002
ultrasound-phantom ultrasound 900007"

{
    echo "# Volumes to try volseg on"
    echo
    echo "Synthetic, made by \`scripts/make-volumes.sh\` (\`volseg phantom\`); the seeds are not among those that the embedded model was"
    echo "trained on. NAME-labels is the truth. Licence: as the project's (Apache-2.0 OR MIT)."
    echo
    echo "| file | modality | seed | sha256 |"
    echo "|---|---|---|---|"
} > "$stage/README.md"
echo "$cases" | while read -r name modality seed; do
    "$volseg" --quiet phantom --modality "$modality" --seed "$seed" --size small -o "$stage/$name"
    for file in image labels; do
        for path in "$stage/$name/$file".*; do
            ending=${path#"$stage/$name/$file"}
            target=$name$([ "$file" = labels ] && echo -labels || true)$ending
            mv "$path" "volumes/$target"
            sum=$(sha256sum "volumes/$target" | cut -d' ' -f1)
            echo "| \`$target\` | $modality | $seed | \`$sum\` |" >> "$stage/README.md"
        done
    done
done
mv "$stage/README.md" volumes/README.md
