# An ordinary training image: Python, torch for the CPU, numpy and scikit-learn. It holds nothing of swarmtrain.
ARG BASE_IMAGE
FROM ${BASE_IMAGE} AS build
LABEL swarmtrain.stage=build
COPY wheels /wheels
# Compiled modules stay: without them every new container would compile torch anew before it starts.
# Headers and static libraries serve only the building of C++ extensions, which needs a compiler that is not here;
# all programs but one are torch's own tests.
RUN pip install --no-index --no-cache-dir --find-links /wheels torch numpy scikit-learn \
    && cd /venv/lib/python3*/site-packages \
    && rm -rf torch/include torch/share torch/test \
    && find torch/bin -type f ! -name torch_shm_manager -delete \
    && find . -name '*.a' -delete \
    && find numpy scipy sklearn joblib networkx sympy -type d -name tests -prune -exec rm -rf {} +

FROM ${BASE_IMAGE}
COPY --from=build /venv /venv
