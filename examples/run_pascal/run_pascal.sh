#!/bin/sh
# Trains, tests, refines and scores, laid out as DeepLab's scripts are, with caffe_port's programs.
# By default on the shapes of this repository; VOC needs EXP, NET_ID, NUM_LABELS, DATA_ROOT (here or in
# the environment) and its config.
set -e

CAFFE_BIN=${CAFFE_BIN:-caffe}
CAFFE_PORT=${CAFFE_PORT:-caffe-port}
DEV_ID=${DEV_ID:--1}

EXP=${EXP:-shapes}
NET_ID=${NET_ID:-thin_largefov}
NUM_LABELS=${NUM_LABELS:-6}
DATA_ROOT=${DATA_ROOT:-../shapes_voc}

RUN_TRAIN=${RUN_TRAIN:-1}
RUN_TEST=${RUN_TEST:-1}
RUN_CRF=${RUN_CRF:-1}
RUN_SCORE=${RUN_SCORE:-1}
LOAD_MAT_FILE=${LOAD_MAT_FILE:-1}   # 0: the CRF reads .bin probabilities in place of .mat scores

TRAIN_SET=train
TEST_SET=val
CONFIG_DIR=${EXP}/config/${NET_ID}
MODEL_DIR=${EXP}/model/${NET_ID}
FEATURE_DIR=${EXP}/features/${NET_ID}
RES_DIR=${EXP}/res/${NET_ID}/${TEST_SET}
LOG_DIR=${EXP}/log/${NET_ID}
mkdir -p ${MODEL_DIR} ${LOG_DIR} ${EXP}/list ${FEATURE_DIR}/${TEST_SET}/fc8
export GLOG_log_dir=${LOG_DIR}

for name in ${TRAIN_SET} ${TEST_SET} ${TEST_SET}_id; do
    [ -f ${EXP}/list/${name}.txt ] || cp ${DATA_ROOT}/${name}.txt ${EXP}/list/
done

fill() {  # template, filled: the variables of a prototxt, as sub.sed lists them
    sed "$(eval echo $(cat sub.sed))" "$1" > "$2"
}

## Training
if [ ${RUN_TRAIN} -eq 1 ]; then
    echo Training net ${EXP}/${NET_ID}
    for pname in train solver; do
        fill ${CONFIG_DIR}/${pname}.prototxt ${CONFIG_DIR}/${pname}_${TRAIN_SET}.prototxt
    done
    CMD="${CAFFE_BIN} train --solver=${CONFIG_DIR}/solver_${TRAIN_SET}.prototxt --gpu=${DEV_ID}"
    if [ -f ${MODEL_DIR}/init.caffemodel ]; then
        CMD="${CMD} --weights=${MODEL_DIR}/init.caffemodel"
    fi
    echo Running ${CMD} && ${CMD}
fi

## Testing: scores of every image as .mat files
if [ ${RUN_TEST} -eq 1 ]; then
    MODEL=${MODEL_DIR}/test.caffemodel
    if [ ! -f ${MODEL} ]; then
        MODEL=`ls -t ${MODEL_DIR}/train_iter_*.caffemodel | head -n 1`
    fi
    TEST_ITER=`cat ${EXP}/list/${TEST_SET}.txt | wc -l`
    echo Testing net ${EXP}/${NET_ID}
    fill ${CONFIG_DIR}/test.prototxt ${CONFIG_DIR}/test_${TEST_SET}.prototxt
    CMD="${CAFFE_BIN} test --model=${CONFIG_DIR}/test_${TEST_SET}.prototxt --weights=${MODEL} \
        --gpu=${DEV_ID} --iterations=${TEST_ITER}"
    echo Running ${CMD} && ${CMD}
fi

## Dense CRF
FEATURES=${FEATURE_DIR}/${TEST_SET}/fc8
MAX_ITER=10
POS_W=3
POS_XY_STD=3
Bi_W=4
Bi_XY_STD=49
Bi_RGB_STD=13
SAVE_DIR=${RES_DIR}/post_densecrf_W${Bi_W}_XStd${Bi_XY_STD}_RStd${Bi_RGB_STD}_PosW${POS_W}_PosXStd${POS_XY_STD}
if [ ${RUN_CRF} -eq 1 ]; then
    CRF_FEATURES=${FEATURES}
    if [ ${LOAD_MAT_FILE} -eq 0 ]; then
        CRF_FEATURES=${FEATURES}/bin
        ${CAFFE_PORT} crf_convert ${FEATURES}/*.mat --to bin -id ${DATA_ROOT}/JPEGImages -o ${CRF_FEATURES}
    fi
    mkdir -p ${SAVE_DIR}
    ${CAFFE_PORT} crf -id ${DATA_ROOT}/JPEGImages -fd ${CRF_FEATURES} -sd ${SAVE_DIR} -i ${MAX_ITER} \
        -px ${POS_XY_STD} -py ${POS_XY_STD} -pw ${POS_W} -bx ${Bi_XY_STD} -by ${Bi_XY_STD} \
        -br ${Bi_RGB_STD} -bg ${Bi_RGB_STD} -bb ${Bi_RGB_STD} -bw ${Bi_W}
fi

## Scores, before and after the CRF
if [ ${RUN_SCORE} -eq 1 ]; then
    SCORE="--images ${DATA_ROOT} --list ${EXP}/list/${TEST_SET}.txt --classes ${NUM_LABELS}"
    [ ! -f ${DATA_ROOT}/class_names.txt ] || SCORE="${SCORE} --names ${DATA_ROOT}/class_names.txt"
    echo Scores of ${FEATURES} && ${CAFFE_PORT} score ${FEATURES} ${SCORE} --json ${RES_DIR}/before.json
    echo Scores of ${SAVE_DIR} && ${CAFFE_PORT} score ${SAVE_DIR} ${SCORE} --json ${RES_DIR}/after.json
fi
