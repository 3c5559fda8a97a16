"""Lists, pictures and label maps in; the arrays that Caffe's data layers make of them out."""
