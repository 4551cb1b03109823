# A compiler, its symbols, and what runs. The first and the last are Debian 12, so the C library is the same.
#
#   docker build -t sluicegate .
#   docker run -p 4444:4444 -v sluicegate:/var/lib/sluicegate \
#     -e ROOT_PASSWORD=… -e JWT_SECRET=… -e REFRESH_JWT_SECRET=… sluicegate
#
# The three secrets are needed: without them the gateway would listen on the container's own loopback, where nobody
# reaches it. The image asks for an admin address that others can reach, so a start without secrets ends at once, with
# exit code 64 and the names of what is missing.

FROM rust:1.95-slim-bookworm AS build
# mimalloc, libdeflate and ring hold C: the compiler and the C library's headers are in this image already.
WORKDIR /src
COPY . .
# As `make dist` does it: the binary without its symbols, and these in a file of their own.
RUN cargo build --profile dist --config 'profile.dist.strip="none"' --locked --bin sluicegate \
    && cd target/dist \
    && objcopy --only-keep-debug sluicegate sluicegate.debug \
    && objcopy --strip-all --add-gnu-debuglink=sluicegate.debug sluicegate /usr/local/bin/sluicegate

# `docker build --target symbols --output . .` writes sluicegate.debug; beside the binary, backtraces have lines again.
FROM scratch AS symbols
COPY --from=build /src/target/dist/sluicegate.debug /

FROM debian:12-slim
# Not root, and a number that Kubernetes' runAsNonRoot can check. The directory belongs to it before it becomes a volume.
RUN install -d -o 65532 -g 65532 -m 0700 /var/lib/sluicegate
COPY --from=build /usr/local/bin/sluicegate /usr/local/bin/sluicegate
USER 65532:65532
# The data port is 0.0.0.0:4444 by itself once the secrets are set; HTTP_PORT still moves it.
ENV SLUICEGATE_DATA_DIR=/var/lib/sluicegate \
    SLUICEGATE_ADMIN_LISTEN=0.0.0.0:4445
VOLUME /var/lib/sluicegate
# 4444: records. 4445: health, metrics, users; do not publish it further than those who may see it.
EXPOSE 4444 4445
# Alive, not ready: a broker that is away is no reason to restart the gateway. bash speaks TCP by itself, so the image
# needs no curl.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/4445 && printf 'GET /healthz HTTP/1.0\\r\\n\\r\\n' >&3 && read -r _ status _ <&3 && [ \"$status\" = 200 ]"]
# SIGTERM drains within eight seconds, inside the ten that docker stop allows.
ENTRYPOINT ["sluicegate"]
