"""Where in Caffe's source a log line is written: parsers of logs look for the file and the line.

DeepLab v2's places are those of the recorded logs; BVLC's are of Caffe 1.0, DeepLab v1's of that
fork, whose solvers are all in solver.cpp.

    log("Optimization Done.", place=Place.OPTIMIZATION_DONE.of("deeplab2"))  # solver.cpp:323

Source: solver.cpp, sgd_solver.cpp, net.cpp and caffe.cpp of the three.
"""

from __future__ import annotations

from enum import Enum

_COLUMNS = {"bvlc": 0, "deeplab1": 1, "deeplab2": 2}


class Place(Enum):
    """A kind of line, with its places in BVLC's Caffe, DeepLab v1 and DeepLab v2."""

    INITIALIZING_SOLVER = ("solver.cpp:44", "solver.cpp:32", "solver.cpp:48")
    TRAIN_NET_PARAM = ("solver.cpp:73", "solver.cpp:55", "solver.cpp:77")
    TRAIN_NET = ("solver.cpp:77", "solver.cpp:58", "solver.cpp:81")
    NET_PARAM = ("solver.cpp:82", "solver.cpp:63", "solver.cpp:86")
    NET = ("solver.cpp:87", "solver.cpp:67", "solver.cpp:91")
    TEST_NET = ("solver.cpp:172", "solver.cpp:151", "solver.cpp:181")
    SCAFFOLDING_DONE = ("solver.cpp:56", "solver.cpp:41", "solver.cpp:60")
    LOSS = ("solver.cpp:218", "solver.cpp:209", "solver.cpp:229")
    TRAIN_OUTPUT = ("solver.cpp:237", "solver.cpp:224", "solver.cpp:245")
    SOLVING = ("solver.cpp:272", "solver.cpp:160", "solver.cpp:280")
    POLICY = ("solver.cpp:273", "solver.cpp:161", "solver.cpp:281")
    RESTORING = ("solver.cpp:279", "solver.cpp:167", "solver.cpp:287")
    STOPPED_EARLY = ("solver.cpp:294", "", "solver.cpp:302")
    FINAL_LOSS = ("solver.cpp:310", "solver.cpp:246", "solver.cpp:318")
    OPTIMIZATION_DONE = ("solver.cpp:315", "solver.cpp:251", "solver.cpp:323")
    TESTING = ("solver.cpp:330", "solver.cpp:264", "solver.cpp:338")
    TEST_INTERRUPTED = ("solver.cpp:379", "", "solver.cpp:388")
    TEST_LOSS = ("solver.cpp:384", "solver.cpp:303", "solver.cpp:393")
    TEST_OUTPUT = ("solver.cpp:397", "solver.cpp:316", "solver.cpp:406")
    SNAPSHOT = ("solver.cpp:447", "solver.cpp:336", "solver.cpp:456")
    SNAPSHOT_HDF5 = ("solver.cpp:457", "", "solver.cpp:466")

    MULTISTEP = ("sgd_solver.cpp:46", "solver.cpp:398", "sgd_solver.cpp:46")
    CLIPPING = ("sgd_solver.cpp:92", "", "sgd_solver.cpp:92")
    RATE = ("sgd_solver.cpp:105", "solver.cpp:447", "sgd_solver.cpp:106")
    STATE = ("sgd_solver.cpp:273", "solver.cpp:344", "sgd_solver.cpp:273")
    STATE_HDF5 = ("sgd_solver.cpp:283", "", "sgd_solver.cpp:283")
    HISTORY = ("sgd_solver.cpp:318", "solver.cpp:562", "sgd_solver.cpp:318")

    INITIALIZING_NET = ("net.cpp:51", "net.cpp:39", "net.cpp:49")
    CREATING_LAYER = ("net.cpp:84", "net.cpp:67", "net.cpp:106")
    SETTING_UP = ("net.cpp:122", "net.cpp:96", "net.cpp:150")
    TOP_SHAPE = ("net.cpp:129", "net.cpp:103", "net.cpp:157")
    LOSS_WEIGHT = ("net.cpp:132", "net.cpp:109", "net.cpp:160")
    MEMORY = ("net.cpp:137", "net.cpp:113", "net.cpp:165")
    BACKWARD = ("net.cpp:198", "net.cpp:170", "net.cpp:226")
    NO_BACKWARD = ("net.cpp:200", "net.cpp:172", "net.cpp:228")
    OUTPUT = ("net.cpp:242", "net.cpp:208", "net.cpp:270")
    INITIALIZED = ("net.cpp:255", "net.cpp:219", "net.cpp:283")
    IN_PLACE = ("net.cpp:367", "net.cpp:345", "net.cpp:397")
    TOP = ("net.cpp:380", "net.cpp:356", "net.cpp:411")
    BOTTOM = ("net.cpp:406", "net.cpp:394", "net.cpp:454")
    IGNORING_LAYER = ("net.cpp:744", "net.cpp:703", "net.cpp:816")
    DEBUG_TOP = ("net.cpp:591", "net.cpp:585", "net.cpp:663")
    DEBUG_PARAM = ("net.cpp:603", "", "net.cpp:675")
    DEBUG_BOTTOM = ("net.cpp:619", "net.cpp:599", "net.cpp:691")
    DEBUG_PARAM_DIFF = ("net.cpp:630", "net.cpp:608", "net.cpp:702")
    DEBUG_UPDATE = ("net.cpp:647", "net.cpp:623", "net.cpp:719")
    DEBUG_UPDATE_SHARED = ("net.cpp:655", "net.cpp:629", "net.cpp:727")
    DEBUG_NORMS = ("net.cpp:719", "", "net.cpp:791")

    CPU_TRAIN = ("caffe.cpp:211", "caffe.cpp:106", "caffe.cpp:178")
    CPU_TEST = ("caffe.cpp:284", "caffe.cpp:141", "caffe.cpp:246")
    CPU_TIME = ("caffe.cpp:352", "caffe.cpp:207", "caffe.cpp:313")
    GPU_TRAIN = ("caffe.cpp:218", "caffe.cpp:102", "caffe.cpp:185")
    GPU_TEST = ("caffe.cpp:275", "caffe.cpp:137", "caffe.cpp:237")
    GPU_TIME = ("caffe.cpp:348", "caffe.cpp:203", "caffe.cpp:309")
    GPU_NAME_TRAIN = ("caffe.cpp:223", "", "caffe.cpp:190")
    GPU_NAME_TEST = ("caffe.cpp:279", "", "caffe.cpp:241")
    RESUMING = ("caffe.cpp:242", "caffe.cpp:115", "caffe.cpp:209")
    FINETUNING = ("caffe.cpp:155", "caffe.cpp:118", "caffe.cpp:129")
    STARTING = ("caffe.cpp:248", "caffe.cpp:110", "caffe.cpp:219")
    TRAINED = ("caffe.cpp:259", "caffe.cpp:124", "caffe.cpp:222")
    RUNNING = ("caffe.cpp:290", "caffe.cpp:148", "caffe.cpp:252")
    BATCH = ("caffe.cpp:313", "caffe.cpp:172", "caffe.cpp:276")
    TESTED_LOSS = ("caffe.cpp:318", "caffe.cpp:177", "caffe.cpp:281")
    TESTED_OUTPUT = ("caffe.cpp:330", "caffe.cpp:189", "caffe.cpp:293")
    PERFORMING_FORWARD = ("caffe.cpp:360", "caffe.cpp:216", "caffe.cpp:321")
    INITIAL_LOSS = ("caffe.cpp:365", "caffe.cpp:221", "caffe.cpp:326")
    PERFORMING_BACKWARD = ("caffe.cpp:366", "caffe.cpp:222", "caffe.cpp:327")
    BENCHMARK_BEGINS = ("caffe.cpp:374", "caffe.cpp:230", "caffe.cpp:335")
    TIMING = ("caffe.cpp:375", "caffe.cpp:231", "caffe.cpp:336")
    TIMED_ITERATION = ("caffe.cpp:403", "caffe.cpp:262", "caffe.cpp:364")
    TIME_PER_LAYER = ("caffe.cpp:406", "caffe.cpp:265", "caffe.cpp:367")
    LAYER_FORWARD = ("caffe.cpp:409", "caffe.cpp:268", "caffe.cpp:370")
    LAYER_BACKWARD = ("caffe.cpp:412", "caffe.cpp:271", "caffe.cpp:373")
    AVERAGE_FORWARD = ("caffe.cpp:417", "caffe.cpp:276", "caffe.cpp:378")
    AVERAGE_BACKWARD = ("caffe.cpp:419", "caffe.cpp:278", "caffe.cpp:380")
    AVERAGE_BOTH = ("caffe.cpp:421", "caffe.cpp:280", "caffe.cpp:382")
    TOTAL_TIME = ("caffe.cpp:423", "caffe.cpp:282", "caffe.cpp:384")
    BENCHMARK_ENDS = ("caffe.cpp:424", "caffe.cpp:283", "caffe.cpp:385")

    def of(self, dialect: str) -> str:
        """`file:line`; BVLC's where the dialect has no such line or no places of its own."""
        return self.value[_COLUMNS.get(dialect, 0)] or self.value[0]
