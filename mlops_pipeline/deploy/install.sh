# Install what a lock in /tmp pins into /opt/mlops. Runs while an image is built, in one layer: uv,
# which is three times as fast as pip, does not stay.
set -eu
lock=$1

if [ ! -e /opt/mlops ]; then
    python3 -m venv --without-pip /opt/mlops
fi
pip install --quiet --no-cache-dir --no-compile --disable-pip-version-check \
    --root-user-action ignore --require-hashes --target /tmp/uv -r /tmp/uv.lock
# The lock is complete: it leaves out what the packages ask for and no server imports.
/tmp/uv/bin/uv pip install --quiet --no-progress --no-cache --system-certs --no-deps --no-build \
    --require-hashes --python /opt/mlops/bin/python -r "/tmp/$lock"
# LightGBM's wheel uses the system's OpenMP, which the base image lacks: it gets scikit-learn's.
ln -sf /opt/mlops/lib/python3*/site-packages/scikit_learn.libs/libgomp-*.so.* /usr/lib/libgomp.so.1
test -e /usr/lib/libgomp.so.1
/opt/mlops/bin/python /tmp/slim.py
rm -rf /tmp/* /opt/mlops/.lock
