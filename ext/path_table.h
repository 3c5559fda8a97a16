// The functions of path_loops.h, listed. Included after it.

template <bool Exact>
constexpr RowLoopsByWidth by_width() {
  return {loops<Exact, Vec4, 1>(),      loops<Exact, VecN, k8>(),
          loops<Exact, VecN, 2 * k8>(), loops<Exact, VecN, 3 * k8>(),
          loops<Exact, VecN, 4 * k8>(), loops<Exact, VecN, 4 * k8, true>()};
}

const Path table = {
    CAFFE_PORT_PATH_NAME,
    {locate<VecN, 1>, locate<VecN, 2>, locate<VecN, 3>, locate<VecN, 4>, locate<VecN, 5>,
     locate<VecN, 6>, locate<VecN, 7>, locate<VecN, 8>, locate<VecN, 9>, locate<VecN, 10>,
     locate<VecN, 11>, locate<VecN, 12>, locate<VecN, 13>, locate<VecN, 14>, locate<VecN, 15>,
     locate<VecN, 16>},
    {by_width<false>(), by_width<true>()},
    to_rows,
    to_planes,
    fetch_planes,
    fetch_rows,
    exponential,
};
